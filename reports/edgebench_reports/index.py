"""The index: a SQLite file that remembers what the checker said of every bundle of a tree.

Bundles are the truth. The index is made from them, can be deleted at any time, is made again where
it is damaged, of another version or of another checker, and lies with the reader (never in the
tree, which is a stranger's). Its tables are described in docs/index.md.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgebench.bundle import find_bundles
from edgebench.codec import make_folder
from edgebench.errors import SpecError, StorageError
from edgebench.progress import Progress, SilentProgress
from edgebench.record import Record, rows
from edgebench_reports.evidence import Evidence
from edgebench_reports.judged import Judged, Lookup, fingerprint, judge, judge_sha256, shown_path
from edgebench_reports.power_mode import power_mode
from edgebench_workloads.cache import cache_root

INDEX_VERSION = 2
MEMORY = Path(":memory:")
COMMIT_EVERY = 50  # bundles: an interrupted indexing goes on where it was
BUSY_S = 30.0  # another process may be writing

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE bundles (
  path TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)),
  findings TEXT NOT NULL,
  run_id TEXT, track TEXT, organisation TEXT, system TEXT, workload TEXT, scenario TEXT,
  profile TEXT, device TEXT, power_mode TEXT, started_utc TEXT,
  record TEXT, system_json TEXT, evidence TEXT
) STRICT;
CREATE TABLE results (
  path TEXT NOT NULL REFERENCES bundles (path) ON DELETE CASCADE,
  kernel TEXT NOT NULL, executed_path TEXT NOT NULL, transform TEXT NOT NULL,
  valid INTEGER NOT NULL, samples INTEGER NOT NULL, duration_s REAL NOT NULL,
  latency_p50_ms REAL, latency_p90_ms REAL, ttft_p90_ms REAL, tpot_p90_ms REAL,
  samples_per_s REAL, tokens_per_s REAL, energy_J REAL,
  accuracy REAL, accuracy_ratio REAL, accuracy_passed INTEGER, call_nll REAL,
  percent_of_bandwidth REAL, percent_of_compute REAL,
  speedup REAL, speedup_low REAL, speedup_high REAL,
  PRIMARY KEY (path, kernel)
) STRICT;
CREATE INDEX bundles_by_case ON bundles (workload, scenario, system, started_utc);
"""
RESULT_COLUMNS = (
    "kernel", "executed_path", "transform", "valid", "samples", "duration_s",
    "latency_p50_ms", "latency_p90_ms", "ttft_p90_ms", "tpot_p90_ms",
    "samples_per_s", "tokens_per_s", "accuracy", "accuracy_ratio", "accuracy_passed", "call_nll",
    "percent_of_bandwidth", "percent_of_compute", "speedup",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What bringing an index up to date did."""

    total: int
    judged: int
    """Bundles that were new or changed, and went through the checker."""
    forgotten: int
    """Bundles that are no longer there."""


def default_index(root: Path) -> Path:
    """Return where a tree's index lies unless told otherwise: in the reader's own cache."""
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache_root() / "index" / f"{name}.sqlite"


def read_tree(
    root: Path, index: Path, *, lookup: Lookup, progress: Progress | None = None
) -> tuple[Refreshed, list[Judged]]:
    """Bring the index of a tree up to date and return every bundle, in order of their paths.

    A damaged index is made again, and that is said. SpecError where the root is no folder,
    StorageError where the index cannot be written.
    """
    progress = progress or SilentProgress()
    if not root.is_dir():
        raise SpecError(
            f"[index] expected a folder of submissions, got {root}; "
            "name the --out folder of `bench run`"
        )
    if index != MEMORY:
        make_folder(index.parent)
    try:
        return _read(root, index, lookup, progress)
    except sqlite3.DatabaseError as err:
        if isinstance(err, sqlite3.OperationalError) and not _is_damage(err):
            raise StorageError(
                f"[index] expected to write {index}, got {err}; choose another with --index"
            ) from err
        progress.note(f"index {index} was damaged ({err}): made again from the bundles")
        _remove(index)
        return _read(root, index, lookup, progress)


def _is_damage(err: sqlite3.OperationalError) -> bool:
    """Whether an operational error is of the file's content, and not of the disk or a lock."""
    return "no such" in str(err) or "malformed" in str(err) or "has no column" in str(err)


def _remove(index: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        index.with_name(index.name + suffix).unlink(missing_ok=True)


def _read(
    root: Path, index: Path, lookup: Lookup, progress: Progress
) -> tuple[Refreshed, list[Judged]]:
    with closing(sqlite3.connect(index, timeout=BUSY_S)) as base:
        base.execute("PRAGMA foreign_keys = ON")
        _prepare(base, progress)
        done = _refresh(base, root, lookup, progress)
        return done, list(_all(base))


def _prepare(base: sqlite3.Connection, progress: Progress) -> None:
    """Make the tables, or check that those there are ours and whole; else DatabaseError."""
    expected = {"version": str(INDEX_VERSION), "judge_sha256": judge_sha256()}
    tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master")}
    if tables:
        (said,) = base.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(said)
        came = dict(base.execute("SELECT key, value FROM meta"))
        if came == expected:
            return
        if came.get("version") != expected["version"]:
            raise sqlite3.DatabaseError(f"version {came.get('version')}, not {INDEX_VERSION}")
        progress.note("the checker has changed since the index was made: every bundle is judged")
        with base:
            base.execute("DELETE FROM results")
            base.execute("DELETE FROM bundles")
            base.executemany("REPLACE INTO meta VALUES (?, ?)", expected.items())
        return
    base.executescript(f"BEGIN; {SCHEMA} COMMIT;")
    with base:
        base.executemany("INSERT INTO meta VALUES (?, ?)", expected.items())


def _refresh(base: sqlite3.Connection, root: Path, lookup: Lookup, progress: Progress) -> Refreshed:
    known: dict[str, str] = dict(base.execute("SELECT path, fingerprint FROM bundles"))
    found = {shown_path(root, path): path for path in find_bundles(root)}
    gone = known.keys() - found.keys()
    stale = []
    for shown, path in found.items():
        mark = fingerprint(path)
        if known.get(shown) != mark:
            stale.append((path, mark))
    with base:
        base.executemany("DELETE FROM bundles WHERE path = ?", [(path,) for path in gone])
    if stale:
        with progress.stage("checking bundles") as update:
            for number, (path, mark) in enumerate(stale):
                update(number, len(stale))
                _keep(base, judge(root, path, lookup), mark)
                if number % COMMIT_EVERY == COMMIT_EVERY - 1:
                    base.commit()
            update(len(stale), len(stale))
        base.commit()
    return Refreshed(total=len(found), judged=len(stale), forgotten=len(gone))


def _keep(base: sqlite3.Connection, judged: Judged, mark: str) -> None:
    base.execute("DELETE FROM bundles WHERE path = ?", (judged.path,))
    values: dict[str, str | int | float | None] = {
        "path": judged.path,
        "fingerprint": mark,
        "accepted": int(judged.record is not None),
        "findings": json.dumps(judged.findings),
    }
    if judged.record is not None:
        values |= _columns(judged, judged.record)
    _insert(base, "bundles", values)
    if judged.record is not None:
        for own in _results(judged.record):
            _insert(base, "results", {"path": judged.path, **own})


def _insert(
    base: sqlite3.Connection, table: str, values: dict[str, str | int | float | None]
) -> None:
    """Insert one row; table and column names are this module's own words."""
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    base.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)


def _columns(judged: Judged, record: Record) -> dict[str, str | int | float | None]:
    return {
        "run_id": record.run_id,
        "track": record.track,
        "organisation": record.organisation,
        "system": record.system,
        "workload": record.workload.name,
        "scenario": record.scenario,
        "profile": record.profile,
        "device": record.host.device,
        "power_mode": power_mode(judged.system) or None,
        "started_utc": record.provenance.started_utc,
        "record": record.model_dump_json(),
        "system_json": json.dumps(judged.system),
        "evidence": judged.evidence.model_dump_json(),
    }


def _results(record: Record) -> Iterator[dict[str, str | int | float | None]]:
    for row in rows(record):
        low, high = row.speedup_ci95 or (None, None)
        own = {name: getattr(row, name) for name in RESULT_COLUMNS}
        yield {
            **own,
            "energy_J": row.energy.joules,
            "speedup_low": low,
            "speedup_high": high,
        }


def _all(base: sqlite3.Connection) -> Iterator[Judged]:
    columns = "path, findings, record, system_json, evidence"
    for path, findings, record, system, evidence in base.execute(
        f"SELECT {columns} FROM bundles ORDER BY path"
    ):
        try:
            yield Judged(
                path=path,
                findings=tuple(json.loads(findings)),
                record=None if record is None else Record.model_validate_json(record),
                system={} if system is None else json.loads(system),
                evidence=Evidence() if evidence is None else Evidence.model_validate_json(evidence),
            )
        except ValueError as err:  # pydantic's is one
            raise sqlite3.DatabaseError(f"the row of {path} cannot be read") from err


def index_command(
    roots: Sequence[Path], *, index: Path | None, lookup: Lookup, progress: Progress
) -> str:
    """Index some trees and say in words what is there; refused bundles are named."""
    if index is not None and len(roots) > 1:
        raise SpecError("[index] expected one tree with --index, got several; index each by itself")
    lines = []
    for root in roots:
        place = index or default_index(root)
        done, judged = read_tree(root, place, lookup=lookup, progress=progress)
        refused = [one for one in judged if one.record is None]
        lines.append(
            f"{root}: {done.total} bundles, {done.judged} judged now, {done.forgotten} gone, "
            f"{len(refused)} refused\nindex: {place}"
        )
        lines += [f"refused: {one.path}: {one.findings[0]}" for one in refused]
    return "\n".join(lines)
