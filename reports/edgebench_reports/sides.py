"""The sides of a comparison: what a folder or a run's id stands for, one bundle per case."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from edgebench import layout
from edgebench.bundle import read_bundle
from edgebench.errors import BundleError, SpecError
from edgebench.progress import Progress
from edgebench.record import Kernel, KernelResult, Record, SampleRow, Scenario
from edgebench.scenarios import performance_rows, span_ns
from edgebench_reports.entries import Submission
from edgebench_reports.index import default_index, read_tree
from edgebench_reports.judged import Judged, Lookup
from edgebench_reports.power_mode import power_mode

Case = tuple[str, str, Scenario]
"""(track, workload, scenario)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One accepted bundle, with where it lies."""

    path: Path
    record: Record
    system: Mapping[str, JsonValue]

    @property
    def case(self) -> Case:
        """What two runs must share to stand in one row."""
        return self.record.track, self.record.workload.name, self.record.scenario

    @property
    def power_mode(self) -> str:
        """How much the machine might draw, in words."""
        return power_mode(self.system)

    def result(self, kernel: Kernel) -> KernelResult | None:
        """Return one kernel's result; None where it was not measured."""
        return next((own for own in self.record.results if own.kernel == kernel), None)

    def times_ns(self, kernel: Kernel) -> dict[tuple[int, int], float]:
        """Return what pairs with another run: (query, sample) -> latency, offline round -> ns each.

        Reads the bundle's rows; BundleError where it has changed since it was judged.
        """
        rows = performance_rows(read_bundle(self.path).samples, kernel)
        if self.record.scenario == "offline":
            return _round_times(rows)
        return {(row.query, row.sample): row.completed_ns - row.issued_ns for row in rows}


def _round_times(rows: Iterable[SampleRow]) -> dict[tuple[int, int], float]:
    rounds: dict[int, list[SampleRow]] = {}
    for row in rows:
        rounds.setdefault(row.block, []).append(row)
    return {(number, 0): span_ns(own) / len(own) for number, own in rounds.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the things compared: its newest run of each case, and what was left out."""

    label: str
    runs: Mapping[Case, Run]
    older: Mapping[Case, tuple[Run, ...]]
    refused: tuple[str, ...]

    def run_to_run(self, case: Case, kernel: Kernel) -> float | None:
        """Return the largest log-ratio between runs of a case and their median; None of one run."""
        runs = [*self.older.get(case, ()), *filter(None, [self.runs.get(case)])]
        speeds = [speed for run in runs if (speed := typical_time(run, kernel)) is not None]
        if len(speeds) < 2:
            return None
        middle = statistics.median(speeds)
        return max(abs(math.log(speed / middle)) for speed in speeds)


def typical_time(run: Run, kernel: Kernel) -> float | None:
    """Return one number for a run: its median latency in ms, offline ms per sample."""
    result = run.result(kernel)
    if result is None:
        return None
    if run.record.scenario == "offline":
        return 1000 / result.samples_per_s if result.samples_per_s else None
    return result.latency_p50_ms


def find_side(name: str, trees: Sequence[Path], *, lookup: Lookup, progress: Progress) -> Side:
    """Return the side that a folder, or a run's id within some trees, stands for.

    SpecError where it is neither, or holds no bundle that the checker accepts.
    """
    path = Path(name)
    if path.is_dir():
        found = _judged(path, lookup, progress)
    else:
        found = [
            (run_path, judged)
            for tree in trees
            for run_path, judged in _judged(tree, lookup, progress)
            if judged.record is not None and name in _names(judged)
        ]
        if not found:
            looked = ", ".join(map(str, trees)) or "no tree"
            raise SpecError(
                f"[compare] expected a folder of bundles or a run's id, got {name!r}, which is no "
                f"folder and no run of {looked}; name the tree with --submissions"
            )
    return _side(name, found)


def _judged(root: Path, lookup: Lookup, progress: Progress) -> list[tuple[Path, Judged]]:
    judged = read_tree(root, default_index(root), lookup=lookup, progress=progress)[1]
    is_bundle = (root / layout.RECORD).is_file()
    return [(root if is_bundle else root / one.path, one) for one in judged]


def _names(judged: Judged) -> tuple[str, ...]:
    if judged.record is None:
        return ()
    return judged.record.run_id, Submission(record=judged.record).anchor


def _side(label: str, found: Sequence[tuple[Path, Judged]]) -> Side:
    runs: dict[Case, list[Run]] = {}
    for path, judged in found:
        if judged.record is not None:
            run = Run(path=path, record=judged.record, system=judged.system)
            runs.setdefault(run.case, []).append(run)
    refused = tuple(f"{j.path}: {j.findings[0]}" for _, j in found if j.record is None)
    if not runs:
        came = f"only refused ones ({refused[0]})" if refused else "none"
        raise SpecError(
            f"[compare] expected a bundle that keeps the rules in {label}, got {came}; "
            "`bench check BUNDLE` says what to do"
        )
    for own in runs.values():
        own.sort(key=lambda run: (run.record.provenance.started_utc, run.record.run_id))
    return Side(
        label=label,
        runs={case: own[-1] for case, own in runs.items()},
        older={case: tuple(own[:-1]) for case, own in runs.items()},
        refused=refused,
    )


def read_again(run: Run, kernel: Kernel) -> dict[tuple[int, int], float] | str:
    """Return the times that pair, or in words why they cannot be read."""
    try:
        return run.times_ns(kernel)
    except BundleError as err:
        return str(err)
