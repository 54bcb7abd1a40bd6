"""Writing a bundle block by block, so that an interrupted run is kept and can go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edgebench import layout
from edgebench.bundle_reader import Bundle, read_bundle
from edgebench.codec import (
    append_synced,
    encode_model,
    encode_row,
    make_folder,
    parse_model,
    read_capped,
    sha256_file,
    storage_error,
    write_atomic,
)
from edgebench.errors import BundleError, StorageError
from edgebench.record import (
    CeilingRow,
    Ledger,
    NllRow,
    Record,
    SampleRow,
    StrictModel,
)

_APPENDED = (layout.SAMPLES, layout.NLL, layout.CEILINGS)


class Progress(StrictModel):
    """`progress.json`: how far each appended file is known to be whole, in bytes."""

    samples: int = 0
    nll: int = 0
    ceilings: int = 0

    def size(self, name: str) -> int:
        """Return the whole size of one appended file."""
        return int(getattr(self, _FIELDS[name]))


_FIELDS = {
    layout.SAMPLES: "samples",
    layout.NLL: "nll",
    layout.CEILINGS: "ceilings",
}


class BundleWriter:
    """One bundle being measured: rows go to disk block by block, the checksums come last.

    While `progress.json` exists the bundle is unfinished, whatever else it holds. `samples`, `nll`
    and `ceilings` are the rows so far: those of an earlier attempt after a resume.
    """

    def __init__(self, path: Path, record: Record, progress: Progress) -> None:
        self.path = path
        self.record = record
        self.samples: list[SampleRow] = []
        self.nll: list[NllRow] = []
        self.ceilings: list[CeilingRow] = []
        self._progress = progress

    @classmethod
    def create(
        cls, root: Path, draft: Record, *, ledger: Ledger, system: StrictModel
    ) -> BundleWriter:
        """Make the folder of a new bundle; StorageError if it exists or cannot be written."""
        path = root.joinpath(*layout.parts(draft))
        make_folder(path.parent)
        try:
            path.mkdir()
        except FileExistsError as err:
            raise StorageError(
                f"[bundle] expected a new folder, got {path}, which another version or request "
                "began; run without --resume to measure anew"
            ) from err
        except OSError as err:
            raise storage_error(path, err) from err
        writer = cls(path, draft.model_copy(update={"complete": False}), Progress())
        write_atomic(path / layout.PROGRESS, encode_model(writer._progress))
        write_atomic(path / layout.RECORD, encode_model(writer.record))
        write_atomic(path / layout.SYSTEM, encode_model(system))
        write_atomic(path / layout.LEDGER, encode_model(ledger))
        for name in (*_APPENDED, layout.POWER):  # the sampler appends to power.csv itself
            write_atomic(path / name, b"")
        return writer

    @property
    def power_path(self) -> Path:
        """Where the sampler appends its readings."""
        return self.path / layout.POWER

    def append_samples(self, rows: Sequence[SampleRow]) -> None:
        """Keep one finished block (single-stream) or round (offline) of one or both kernels."""
        self._append(layout.SAMPLES, b"".join(map(encode_row, rows)))
        self.samples += rows

    def replace_samples(self, rows: Sequence[SampleRow]) -> None:
        """Keep only these rows: a resumed run drops the blocks that it will measure again."""
        data = b"".join(map(encode_row, rows))
        write_atomic(self.path / layout.SAMPLES, data)
        self._note(layout.SAMPLES, len(data))
        self.samples[:] = rows

    def append_nll(self, rows: Sequence[NllRow]) -> None:
        """Keep likelihood rows."""
        self._append(layout.NLL, b"".join(map(encode_row, rows)))
        self.nll += rows

    def append_ceilings(self, rows: Sequence[CeilingRow]) -> None:
        """Keep repeats of ceilings."""
        self._append(layout.CEILINGS, b"".join(map(encode_row, rows)))
        self.ceilings += rows

    def write_tensors(self, data: bytes, name: str = layout.TENSORS) -> None:
        """Keep int4.safetensors or folded.safetensors; only within the layout's limit."""
        limit = layout.SIZE_LIMITS[name]
        if len(data) > limit:
            raise BundleError(
                f"[bundle] expected tensors of at most {limit} bytes in {name}, got {len(data)}"
            )
        write_atomic(self.path / name, data)

    def update(self, record: Record) -> None:
        """Replace record.json while the run goes on; it stays complete: false."""
        self.record = record.model_copy(update={"complete": False})
        write_atomic(self.path / layout.RECORD, encode_model(self.record))

    def finish(self, record: Record) -> Path:
        """Write the complete record, then the checksums; from then on the bundle counts."""
        self.record = record.model_copy(update={"complete": True})
        write_atomic(self.path / layout.RECORD, encode_model(self.record))
        names = sorted(name for name in layout.SIZE_LIMITS if (self.path / name).is_file())
        sums = (f"{sha256_file(self.path / n)}  {n}\n" for n in names if n != layout.CHECKSUMS)
        write_atomic(self.path / layout.CHECKSUMS, "".join(sums).encode())
        try:
            (self.path / layout.PROGRESS).unlink()
        except OSError as err:
            raise storage_error(self.path / layout.PROGRESS, err) from err
        return self.path

    def last_ns(self) -> int:
        """Return the latest time in any row: a resumed run's clock must go on after it."""
        times = [row.completed_ns for row in self.samples] + [row.taken_ns for row in self.ceilings]
        return max(times, default=0)

    def _append(self, name: str, data: bytes) -> None:
        if not data:
            return
        self._note(name, append_synced(self.path / name, data))

    def _note(self, name: str, size: int) -> None:
        self._progress = self._progress.model_copy(update={_FIELDS[name]: size})
        write_atomic(self.path / layout.PROGRESS, encode_model(self._progress))


def find_resumable(
    root: Path,
    draft: Record,
    *,
    ledger: Ledger,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> BundleWriter | None:
    """Open the newest unfinished bundle of the same request, or None.

    The same request: everything that the record fixes before measuring is equal, the run id and
    times apart, and the ledger is equal, so that rows of other weights are never taken over. Rows
    that lie in the future of the clock are another boot's: their bundle cannot go on.
    """
    folder = root.joinpath(*layout.parts(draft)).parent
    for path in sorted(_folders(folder), key=lambda path: path.name, reverse=True):
        if (path / layout.PROGRESS).is_file():
            writer = _reopen(path)
            if writer is None or writer.last_ns() > clock_ns():
                continue
            if _same_request(writer, draft, ledger):
                return writer
    return None


def find_finished(root: Path, draft: Record, *, ledger: Ledger, run_id: str) -> Bundle | None:
    """Return the finished bundle of the same request and run id, or None: nothing to measure."""
    path = root.joinpath(*layout.parts(draft)).parent / run_id
    if not path.is_dir() or (path / layout.PROGRESS).exists():
        return None
    bundle = read_bundle(path)
    same = _request(bundle.record) == _request(draft) and bundle.ledger == ledger
    return bundle if same else None


def _folders(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def _request(record: Record) -> dict[str, object]:
    """Return what a record says before anything is measured."""
    host = record.host.model_dump(exclude={"other_runs_seen"})
    fixed = record.model_dump(
        include={
            "schema_version", "track", "organisation", "system", "workload", "scenario",
            "profile", "stamps", "seeds", "external",
        }
    )  # fmt: skip
    code = record.provenance.model_dump(include={"tool_version", "git_commit"})
    return {**fixed, "host": host, **code}


def _same_request(writer: BundleWriter, draft: Record, ledger: Ledger) -> bool:
    limit = layout.SIZE_LIMITS[layout.LEDGER]
    data = read_capped(writer.path / layout.LEDGER, limit)
    same_weights = parse_model(Ledger, data, layout.LEDGER) == ledger
    return same_weights and _request(writer.record) == _request(draft)


def _reopen(path: Path) -> BundleWriter | None:
    """Cut torn appends off, read what is left; None when the folder was never properly begun."""
    try:
        with_progress = read_capped(path / layout.PROGRESS, layout.SIZE_LIMITS[layout.CHECKSUMS])
        progress = parse_model(Progress, with_progress, layout.PROGRESS)
        for name in _APPENDED:
            size = (path / name).stat().st_size  # smaller: replaced whole just before the end
            os.truncate(path / name, min(size, progress.size(name)))
        _cut_torn_line(path / layout.POWER)
        (path / layout.CHECKSUMS).unlink(missing_ok=True)
        bundle = read_bundle(path, allow_incomplete=True)
    except (BundleError, FileNotFoundError):
        return None
    except OSError as err:
        raise storage_error(path, err) from err
    writer = BundleWriter(path, bundle.record.model_copy(update={"complete": False}), progress)
    writer.samples += bundle.samples
    writer.nll += bundle.nll
    writer.ceilings += bundle.ceilings
    return writer


def _cut_torn_line(path: Path) -> None:
    """Drop what follows the last newline: a reading that was being written."""
    data = read_capped(path, layout.SIZE_LIMITS[layout.POWER])
    os.truncate(path, data.rfind(b"\n") + 1)
