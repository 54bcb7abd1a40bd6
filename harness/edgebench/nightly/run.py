"""`bench nightly`: measure both arms in turns, judge, and add the night to the history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench.nightly.arms import Arm, find_arm, run_workload
from edgebench.nightly.history import HistoryRow, append_history, limit_from, read_history
from edgebench.nightly.night import Labels, Night, make_night, to_row
from edgebench.nightly.pairs import Side, probe_pair
from edgebench.nightly.probe import CONTROL
from edgebench.nightly.session import Measure, Plan, run_session
from edgebench.nightly.suite import Suite, read_suite
from edgebench.progress import Progress
from edgebench.provenance import git_state
from edgebench.system import system_name
from edgebench.utc import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class NightOptions:
    """What was typed."""

    suite: Path
    baseline: str
    head: str = "self"
    history: Path
    threads: int | None = None


def night_limits(
    suite: Suite, history: Sequence[HistoryRow], system: str
) -> dict[str, tuple[float, str]]:
    """Return the smallest change that counts of every cell, with its source."""
    return {
        name: limit_from(
            history,
            name,
            system,
            floor_percent=suite.minimum_effect_percent,
            unknown=suite.unknown_effect_percent,
        )
        for name in suite.names
    }


def measure_with(suite: Suite, arms: Mapping[bool, Arm], threads: int | None) -> Measure:
    """Return a measure of a suite's cells: kernels in one pair of processes, each workload in its.

    arms: whether it is head's -> the arm. Every process times as many calls as the first found fit.
    """
    calls: dict[str, int] = {}
    baseline, head = (Side(arm=arms[is_head]) for is_head in (False, True))

    def measure(is_head_first: bool, wanted: Sequence[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        kernels = [cell for cell in suite.kernels if cell.name in wanted]
        if kernels:
            found |= probe_pair(
                baseline, head, kernels, is_head_first=is_head_first, calls=calls, threads=threads
            )
        for cell in suite.workloads:
            if cell.name in wanted:
                turns = (is_head_first, not is_head_first)
                own = {is_head: run_workload(arms[is_head], cell) for is_head in turns}
                found[cell.name] = math.log(own[True]["int4"] / own[False]["int4"])
                control = math.log(own[True]["fp16"] / own[False]["fp16"])
                found[f"{cell.name} {CONTROL}"] = control
        return found

    return measure


def run_night(options: NightOptions, progress: Progress) -> Night:
    """Run one night and append it to the history.

    SpecError for a bad suite or arm, DeviceUnavailable where the baseline cannot be installed.
    """
    suite = read_suite(options.suite)
    history, faults = read_history(options.history)
    arms = {False: find_arm(options.baseline), True: find_arm(options.head)}
    system = system_name()
    labels = Labels(
        system=system,
        baseline=_label(arms[False]),
        head=_label(arms[True]),
        night_utc=utc_now(),
    )
    limits = night_limits(suite, history, system)
    progress.note(f"{labels.head} against {labels.baseline} on {system}")
    session = run_session(
        measure_with(suite, arms, options.threads),
        {name: limit for name, (limit, _) in limits.items()},
        Plan(
            looks=suite.looks,
            budget_s=60 * suite.budget_minutes,
            alarm_p=suite.false_discovery_rate / len(limits),
        ),
        progress=progress,
    )
    night = make_night(suite, session, labels, limits, history, faults)
    append_history(options.history, [to_row(suite.name, labels, cell) for cell in night.cells])
    return night


def _label(arm: Arm) -> str:
    """Name an arm by its commit where it is this checkout, so that creep can say a range."""
    state = git_state() if arm.label == "self" else None
    return arm.label if state is None else state[0][:12] + ("+" if state[1] else "")
