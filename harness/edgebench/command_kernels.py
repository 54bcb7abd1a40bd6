"""The words of `bench kernels`: from options to a race of kernels, its files and its table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebench.codec import storage_error, write_atomic
from edgebench.errors import DeviceUnavailable, RunFailed, SpecError, unknown_name
from edgebench.kernel_rows import markdown
from edgebench.kernel_tuning import apply_tuning, tune_kernels
from edgebench.progress import Progress, choose_progress
from edgebench.record import KernelTuning
from edgebench.spec import split_names
from edgebench.system import describe_system
from edgebench_kernels import native
from edgebench_kernels.packing import LINEAR_DOORS
from edgebench_kernels.race.cases import BATCHES, SHAPES, Case, check_shape, rotated_bytes
from edgebench_kernels.race.peers import PEERS
from edgebench_kernels.race.race import WrongResult, race_shape
from edgebench_kernels.race.rows import Row

FORMS = ("table", "json")
ROWS_FILE, RACE_FILE, TABLE_FILE, PICTURE_FILE = (
    "rows.json",
    "race.json",
    "table.md",
    "roofline.svg",
)
Draw = Callable[[Sequence[Row]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOptions:
    """What the command line says, unchecked."""

    shapes: tuple[str, ...]
    batch: str
    op: str
    group: int
    rounds: int
    peers: str
    threads: int | None
    isa: str | None
    out: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRace:
    """A checked request."""

    shapes: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    ops: tuple[str, ...]
    group: int
    rounds: int
    peers: tuple[str, ...]


def kernels_command(options: KernelOptions, *, form: str, quiet: bool, draw: Draw) -> str:
    """Race, and return the table or the JSON array of rows; with `out`, write both there."""
    if form not in FORMS:
        raise unknown_name("kernels", "format", form, FORMS)
    race = parse_race(options)
    progress = choose_progress(quiet)
    _choose(options)
    tuning = tune_kernels()
    apply_tuning(tuning)
    files = None if options.out is None else _Files(options.out, race, tuning)
    rows = _race(race, files, progress, draw)
    return markdown(rows) if form == "table" else _as_json(rows)


def parse_race(options: KernelOptions) -> KernelRace:
    """Check every value; SpecError says what was expected."""
    shapes = tuple(_pair(text) for text in options.shapes) or SHAPES
    for n, k in shapes:
        try:
            check_shape(n, k, options.group)
        except ValueError as error:
            raise SpecError(str(error)) from error
    batches: tuple[int, ...] = BATCHES
    if options.batch:
        batches = tuple(_positive("batch", part) for part in options.batch.split(","))
    wanted = {"auto": tuple(PEERS), "none": ()}.get(options.peers)
    peers = _known("peer", options.peers, PEERS) if wanted is None else wanted
    return KernelRace(
        shapes=shapes,
        batches=tuple(sorted(set(batches))),
        ops=_known("op", options.op, LINEAR_DOORS),
        group=options.group,
        rounds=options.rounds,
        peers=peers,
    )


def _pair(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2:
        raise SpecError(f"[kernels] expected --shapes N,K, got {text!r}")
    return _positive("shapes", parts[0]), _positive("shapes", parts[1])


def _positive(option: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise SpecError(f"[kernels] expected --{option} to be whole numbers above 0, got {text!r}")
    return int(text)


def _known(what: str, text: str, table: Any) -> tuple[str, ...]:
    names = split_names(text)
    for name in names:
        if name not in table:
            raise unknown_name("kernels", what, name, table)
    return names


def _choose(options: KernelOptions) -> None:
    try:
        native.library()
        if options.isa:
            native.force_isa(options.isa)
        if options.threads:
            native.set_threads(options.threads)
    except (native.Unavailable, native.NativeLibraryMissing) as error:
        raise DeviceUnavailable(str(error)) from error
    except ValueError as error:
        raise SpecError(str(error)) from error


def _race(race: KernelRace, files: _Files | None, progress: Progress, draw: Draw) -> list[Row]:
    rows = [] if files is None else list(files.rows)
    finished = {(row.n, row.k, row.m) for row in rows}
    total = len(race.shapes) * len(race.batches)

    def note(text: str) -> None:
        progress.note(text)
        if files is not None:
            files.note(text)

    with progress.stage("bench kernels") as update:
        done = len(finished)
        update(done, total)
        for n, k in race.shapes:
            left = [m for m in race.batches if (n, k, m) not in finished]
            cases = [Case(n=n, k=k, m=m, group=race.group) for m in left]
            for some in _guarded_race(cases, race, note):
                rows += some
                done += 1
                update(done, total)
                if files is not None:
                    files.save(rows, draw)
    if files is not None:
        progress.note(f"rows, table, picture and environment: {files.folder}")
    return rows


def _guarded_race(cases: Sequence[Case], race: KernelRace, note: Callable[[str], None]) -> Any:
    if not cases:
        return
    try:
        yield from race_shape(
            cases, ops=race.ops, peer_names=race.peers, rounds=race.rounds, note=note
        )
    except (WrongResult, MemoryError) as error:
        raise RunFailed(str(error)) from error


class _Files:
    """The folder of a race: each case is kept as soon as it is timed; the same race goes on."""

    def __init__(self, folder: Path, race: KernelRace, tuning: KernelTuning) -> None:
        self.folder = folder
        self._tuning = tuning.model_dump(mode="json")
        self._request = json.loads(json.dumps(dataclasses.asdict(race))) | {
            "isa": native.isa(),
            "threads": native.threads(),
        }
        self.rows: list[Row] = []
        self._notes: list[str] = []
        self._system = describe_system()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(folder, error) from error
        if (folder / RACE_FILE).exists():
            self._go_on()
        self._write_race()

    def _go_on(self) -> None:
        try:
            before = json.loads((self.folder / RACE_FILE).read_text())
            same = before["request"] == self._request
            same = same and before["system"]["name"] == self._system.name
            self._notes = list(before["notes"])
            kept = self.folder / ROWS_FILE
            self.rows = (
                [Row(**row) for row in json.loads(kept.read_text())] if kept.exists() else []
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpecError(
                f"[kernels] {self.folder} holds a race that cannot be read ({error}); "
                "give another --out"
            ) from error
        if not same:
            raise SpecError(
                f"[kernels] {self.folder} holds a race with other settings or of another machine; "
                "give another --out"
            )

    def note(self, text: str) -> None:
        """Keep a remark beside the rows."""
        if text not in self._notes:
            self._notes.append(text)
            self._write_race()

    def save(self, rows: Sequence[Row], draw: Draw) -> None:
        """Write the rows so far, their table and their picture."""
        write_atomic(self.folder / ROWS_FILE, (_as_json(rows) + "\n").encode())
        write_atomic(self.folder / TABLE_FILE, (markdown(rows) + "\n").encode())
        write_atomic(self.folder / PICTURE_FILE, draw(rows).encode())

    def _write_race(self) -> None:
        system = self._system.model_dump(mode="json")
        race = {
            "request": self._request,
            "kernel_tuning": self._tuning,
            "rotated_bytes": rotated_bytes(),
            "notes": self._notes,
            "system": system,
        }
        text = json.dumps(race, indent=2, allow_nan=False) + "\n"
        write_atomic(self.folder / RACE_FILE, text.encode())


def _as_json(rows: Sequence[Row]) -> str:
    return json.dumps([dataclasses.asdict(row) for row in rows], indent=2, allow_nan=False)
