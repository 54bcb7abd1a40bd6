"""Reading a bundle safely: a stranger's folder, looked at before it is opened."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgebench import layout
from edgebench.codec import parse_model, parse_rows, read_capped, sha256_file
from edgebench.errors import BundleError
from edgebench.findings import refuse
from edgebench.record import CeilingRow, Ledger, NllRow, Record, SampleRow
from edgebench.system import SystemDescription

_CHECKSUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._-]{1,100})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Everything in a bundle, parsed; large files as rows, tensors and power as paths."""

    path: Path
    record: Record
    samples: tuple[SampleRow, ...] = field(repr=False)
    nll: tuple[NllRow, ...] = field(repr=False)
    ceilings: tuple[CeilingRow, ...] = field(repr=False)
    system: SystemDescription = field(repr=False)
    ledger: Ledger = field(repr=False)
    power_csv: Path | None
    tensors_path: Path | None
    folded_path: Path | None = None
    open_path: Path | None = None
    coded_path: Path | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the run finished: the record says so and the checksums were written."""
        return self.record.complete and (self.path / layout.CHECKSUMS).is_file()


def list_files(folder: Path, dir_fd: int) -> dict[str, int]:
    """Return the sizes of a bundle's files; anything that does not belong is refused (S-01)."""
    sizes: dict[str, int] = {}
    with os.scandir(dir_fd) as listing:
        for entry in listing:
            # A long listing is a fault already; a name with a slash cannot occur in a listing.
            if len(sizes) > len(layout.SIZE_LIMITS) + 1:
                raise refuse("S-01", "only the files of the layout", "many more files")
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a plain file"
                raise refuse("S-01", "plain files only", f"{entry.name!r}, which is {kind}")
            known = layout.SIZE_LIMITS.get(entry.name)
            if known is None and entry.name != layout.PROGRESS:
                raise refuse("S-01", "only the files of the layout", repr(entry.name))
            if known is not None and status.st_size > known:
                came = f"{status.st_size} bytes"
                raise refuse("S-01", f"{entry.name} of at most {known} bytes", came)
            sizes[entry.name] = status.st_size
    total = sum(sizes.values())
    if total > layout.MAX_TOTAL_BYTES:
        raise refuse("S-01", f"at most {layout.MAX_TOTAL_BYTES} bytes in all", f"{total} bytes")
    return sizes


def parse_checksums(data: bytes) -> dict[str, str]:
    """Parse SHA256SUMS into {name: sha256}; a name that leaves the folder is refused (S-01)."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as err:
        raise refuse("S-03", "SHA256SUMS in ASCII", err) from err
    sums: dict[str, str] = {}
    for line in text.split("\n")[:-1] if text.endswith("\n") else text.split("\n"):
        match = _CHECKSUM_LINE.fullmatch(line)
        if match is None or match[2] in (".", ".."):
            rule = "S-01" if "/" in line or ".." in line else "S-03"
            raise refuse(rule, "lines of '<sha256>  <file name>' in SHA256SUMS", repr(line))
        if match[2] in sums:
            raise refuse("S-03", "every file once in SHA256SUMS", f"{match[2]!r} twice")
        sums[match[2]] = match[1]
    return sums


def _check_sums(dir_fd: int, sizes: Mapping[str, int]) -> None:
    limit = layout.SIZE_LIMITS[layout.CHECKSUMS]
    sums = parse_checksums(read_capped(Path(layout.CHECKSUMS), limit, dir_fd=dir_fd))
    listed, present = set(sums), set(sizes) - {layout.CHECKSUMS, layout.PROGRESS}
    if listed != present:
        came = (
            f"only in SHA256SUMS: {sorted(listed - present)}, unlisted: {sorted(present - listed)}"
        )
        raise refuse("S-03", "SHA256SUMS to list exactly the other files", came)
    for name, expected in sums.items():
        came = sha256_file(Path(name), dir_fd=dir_fd)
        if came != expected:
            raise refuse("S-03", f"{name} with sha256 {expected}", came)


def _check_present(sizes: Mapping[str, int], allow_incomplete: bool) -> None:
    unfinished = layout.PROGRESS in sizes or layout.CHECKSUMS not in sizes
    if unfinished and not allow_incomplete:
        came = f"{layout.PROGRESS} left over" if layout.PROGRESS in sizes else "no SHA256SUMS"
        raise refuse("S-05", "a finished run", came)
    needed = {layout.RECORD, layout.SYSTEM, layout.LEDGER}
    if not unfinished:
        needed = set(layout.SIZE_LIMITS) - layout.OPTIONAL
    if missing := sorted(needed - set(sizes)):
        raise refuse("S-01", "all files of the layout", f"no {', '.join(missing)}")


def _parse(folder: Path, dir_fd: int, sizes: Mapping[str, int]) -> Bundle:
    def data(name: str) -> bytes:
        if name not in sizes:  # an unfinished run may not have reached it
            return b""
        return read_capped(Path(name), layout.SIZE_LIMITS[name], dir_fd=dir_fd)

    try:
        return Bundle(
            path=folder,
            record=parse_model(Record, data(layout.RECORD), layout.RECORD),
            samples=tuple(
                parse_rows(SampleRow, data(layout.SAMPLES), layout.SAMPLES, layout.MAX_ROWS)
            ),
            nll=tuple(parse_rows(NllRow, data(layout.NLL), layout.NLL, layout.MAX_ROWS)),
            ceilings=tuple(
                parse_rows(CeilingRow, data(layout.CEILINGS), layout.CEILINGS, layout.MAX_ROWS)
            ),
            system=parse_model(SystemDescription, data(layout.SYSTEM), layout.SYSTEM),
            ledger=parse_model(Ledger, data(layout.LEDGER), layout.LEDGER),
            power_csv=folder / layout.POWER if layout.POWER in sizes else None,
            tensors_path=folder / layout.TENSORS if layout.TENSORS in sizes else None,
            folded_path=folder / layout.FOLDED if layout.FOLDED in sizes else None,
            open_path=folder / layout.OPEN if layout.OPEN in sizes else None,
            coded_path=folder / layout.CODED if layout.CODED in sizes else None,
        )
    except BundleError as err:
        raise refuse("S-04", "strict JSON of the published schema", err) from err


def _check_location(bundle: Bundle) -> None:
    came, expected = bundle.path.absolute().parts[-layout.DEPTH :], layout.parts(bundle.record)
    if came != expected:
        raise refuse("S-02", f"the folder {'/'.join(expected)}", "/".join(came))


def read_bundle(path: Path, *, allow_incomplete: bool = False) -> Bundle:
    """Read a bundle that a stranger made; BundleRefused (exit 5) names the broken rule.

    Nothing is opened before its name, kind and size are known; links are never followed. With
    allow_incomplete, a run that was interrupted is read as far as it came.
    """
    folder = Path(os.path.normpath(path.absolute()))
    try:
        dir_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as err:
        raise refuse("S-01", f"a bundle's folder at {path}", err.strerror) from err
    try:
        sizes = list_files(folder, dir_fd)
        _check_present(sizes, allow_incomplete)
        if layout.CHECKSUMS in sizes and layout.PROGRESS not in sizes:
            _check_sums(dir_fd, sizes)
        bundle = _parse(folder, dir_fd, sizes)
    except BundleError:
        raise
    except OSError as err:
        raise refuse("S-01", "readable files", f"{err.strerror} ({err.filename})") from err
    finally:
        os.close(dir_fd)
    if not bundle.record.complete and not allow_incomplete:
        raise refuse("S-05", "complete: true in record.json", "complete: false")
    _check_location(bundle)
    return bundle
