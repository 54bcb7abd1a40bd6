"""Comparing runs: paired ratios with intervals, a verdict each, or the reason why there is none.

Two runs are two processes, so their samples say how sure each run is of itself, not how much the
next run would move. That part is measured where it can be: between several runs of one side, and
by the fp16 reference of two runs of one machine and one version, which nothing should have moved.
A verdict needs an effect beyond all of it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.paired import Effect, Verdict, judge, log_ratio, paired_effect, smallest_visible
from edgebench.record import Kernel
from edgebench_reports.differs import Difference, differences, same_machine, same_software
from edgebench_reports.sides import Case, Run, Side, read_again, typical_time

PRACTICAL_PERCENT = 2.0  # between processes; the floor of what is called a change
MAX_UNITS = 32  # consecutive queries swing together, so they are grouped before they are pairs
MIN_UNITS = 8  # a 99 % interval of ranks needs eight
OFFLINE_CONFIDENCE = 0.95  # six rounds are the rule, and six pairs allow no more
CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kernel of one case, on both sides."""

    case: Case
    kernel: Kernel
    baseline_ms: float | None
    candidate_ms: float | None
    effect: Effect | None
    limit: float
    """Log-ratio below which nothing is called a change."""
    limit_reason: str
    verdict: Verdict | None
    """None where the two may not be ranked; `refusals` say why."""
    refusals: tuple[str, ...] = ()
    of_roofline: tuple[float | None, float | None] = (None, None)
    """Percent of the run's own ceiling that bounds the case, on either side."""
    speedups: tuple[float | None, float | None] = (None, None)
    """Over the fp16 of the same run: what the machine did to both cancels."""

    @property
    def visible(self) -> float | None:
        """The smallest change that this cell could have called one, as a log-ratio."""
        return smallest_visible(self.effect, self.limit)

    @property
    def roofline_ratio(self) -> float | None:
        """Candidate over baseline, each as a share of its own device's roofline; above 1 is better.

        None where a side has no place under a ceiling.
        """
        one, other = self.of_roofline
        return other / one if one and other else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate against the baseline."""

    baseline: str
    candidate: str
    across_hardware: bool
    differs: tuple[Difference, ...]
    cells: tuple[Cell, ...]
    only_baseline: tuple[Case, ...]
    only_candidate: tuple[Case, ...]


def compare_sides(sides: Sequence[Side]) -> list[Comparison]:
    """Compare each further side with the first one."""
    return [_compare(sides[0], other) for other in sides[1:]]


def _compare(baseline: Side, candidate: Side) -> Comparison:
    shared = sorted(baseline.runs.keys() & candidate.runs.keys())
    pairs = [(baseline.runs[case], candidate.runs[case]) for case in shared]
    differs = {found: None for pair in pairs for found in differences(*pair)}
    cells = [cell for case in shared for cell in _cells(baseline, candidate, case)]
    return Comparison(
        baseline=baseline.label,
        candidate=candidate.label,
        across_hardware=any(not same_machine(*pair) for pair in pairs),
        differs=tuple(differs),
        cells=tuple(cells),
        only_baseline=tuple(sorted(baseline.runs.keys() - candidate.runs.keys())),
        only_candidate=tuple(sorted(candidate.runs.keys() - baseline.runs.keys())),
    )


def _cells(baseline: Side, candidate: Side, case: Case) -> list[Cell]:
    one, other = baseline.runs[case], candidate.runs[case]
    kernels = [own.kernel for own in one.record.results if other.result(own.kernel) is not None]
    effects = {kernel: _effect(one, other, kernel) for kernel in kernels}
    return [_cell(baseline, candidate, case, kernel, effects) for kernel in kernels]


def _cell(
    baseline: Side,
    candidate: Side,
    case: Case,
    kernel: Kernel,
    effects: dict[Kernel, Effect | str | None],
) -> Cell:
    one, other = baseline.runs[case], candidate.runs[case]
    refusals = list(incomparable(one, other, kernel))
    refusals += [
        f"the {role} {reason}"
        for role, side in (("baseline", baseline), ("candidate", candidate))
        if (reason := _mixed(side, case, kernel))
    ]
    effect = effects[kernel]
    if isinstance(effect, str):
        refusals.append(effect)
        effect = None
    spreads = [side.run_to_run(case, kernel) for side in (baseline, candidate)]
    limit, reason = _limit(spreads, _drift(one, other, kernel, effects.get("fp16")))
    return Cell(
        case=case,
        kernel=kernel,
        baseline_ms=typical_time(one, kernel),
        candidate_ms=typical_time(other, kernel),
        effect=effect,
        limit=limit,
        limit_reason=reason,
        verdict=None if refusals else judge(effect, limit),
        refusals=tuple(refusals),
        of_roofline=(_share(one, kernel), _share(other, kernel)),
        speedups=(_speedup(one, kernel), _speedup(other, kernel)),
    )


def incomparable(one: Run, other: Run, kernel: Kernel) -> list[str]:
    """Return why two runs of a case may not be ranked against each other; empty where they may."""
    a, b = one.record, other.record
    pairs = (
        ("the task", a.workload.task_sha256, b.workload.task_sha256),
        ("the reference weights", a.workload.reference_sha256, b.workload.reference_sha256),
        ("the scored set", a.workload.scored_sha256, b.workload.scored_sha256),
        ("the profile", a.profile, b.profile),
    )
    reasons = [f"{what} differs" for what, left, right in pairs if left != right]
    if same_machine(one, other) and one.power_mode != other.power_mode:
        modes = f"{one.power_mode or 'unknown'}, {other.power_mode or 'unknown'}"
        reasons.append(f"one machine in two power modes ({modes})")
    for side, run in (("baseline", one), ("candidate", other)):
        reasons += [f"the {side} {reason}" for reason in _unfit(run, kernel)]
    return reasons


def _mixed(side: Side, case: Case, kernel: Kernel) -> str | None:
    """Say where a side is no one thing: runs of several machines, or of several open models."""
    newest, older = side.runs[case], side.older.get(case, ())
    runs = (*older, newest)
    if not all(same_machine(newest, run) for run in older):
        systems = sorted({run.record.system for run in runs})
        return f"has runs of several machines ({', '.join(systems)}): give a folder of one"
    models = sorted({result.transform for run in runs if (result := run.result(kernel))})
    if newest.record.track == "open" and len(models) > 1:
        return f"has runs of several models ({', '.join(models)}): give a folder of one"
    return None


def _unfit(run: Run, kernel: Kernel) -> list[str]:
    result = run.result(kernel)
    if result is None:
        return ["did not run this kernel"]
    reasons = []
    if not result.valid:
        reasons.append(f"is INVALID: {'; '.join(result.invalid_reasons) or 'no reason given'}")
    if result.accuracy_passed is False:
        reasons.append("missed the accuracy gate")
    if kernel == "external":
        reasons.append("is an external engine, whose weights nobody checked")
    if any("SIMULATED" in stamp.upper() for stamp in run.record.stamps):
        reasons.append("is simulated")
    return reasons


def _effect(one: Run, other: Run, kernel: Kernel) -> Effect | str | None:
    times = [read_again(run, kernel) for run in (one, other)]
    if isinstance(times[0], str):
        return times[0]
    if isinstance(times[1], str):
        return times[1]
    shared = [key for key in times[0] if key in times[1]]
    if not shared:
        return "the runs share no query of the same sample"
    ratios = [math.log(times[1][key] / times[0][key]) for key in shared]
    if one.record.scenario == "offline":
        confidence = CONFIDENCE if len(ratios) >= MIN_UNITS else OFFLINE_CONFIDENCE
        return paired_effect(ratios, confidence)
    return paired_effect(units(ratios), CONFIDENCE)


def units(ratios: Sequence[float]) -> list[float]:
    """Return the medians of at most 32 runs of consecutive ratios: pairs closer to independent."""
    count = min(MAX_UNITS, len(ratios))
    edges = [len(ratios) * step // count for step in range(count + 1)]
    return [statistics.median(ratios[start:stop]) for start, stop in itertools.pairwise(edges)]


def _drift(one: Run, other: Run, kernel: Kernel, reference: Effect | str | None) -> float | None:
    """Return how far the reference moved between two runs that it should not have moved between."""
    if kernel == "fp16" or not isinstance(reference, Effect):
        return None
    is_control = same_machine(one, other) and same_software(one, other)
    return abs(reference.estimate) if is_control else None


def _limit(spreads: Sequence[float | None], drift: float | None) -> tuple[float, str]:
    found = [(log_ratio(PRACTICAL_PERCENT), f"the practical limit, {PRACTICAL_PERCENT:g} %")]
    found += [(value, "the spread between runs of one side") for value in spreads if value]
    if drift:
        found.append((drift, "how far fp16 moved, which nothing had changed"))
    return max(found)


def _share(run: Run, kernel: Kernel) -> float | None:
    result = run.result(kernel)
    if result is None:
        return None
    place = result.roofline
    if run.record.scenario == "single-stream":
        return place.percent_of_bandwidth
    return place.percent_of_compute


def _speedup(run: Run, kernel: Kernel) -> float | None:
    result = run.result(kernel)
    return None if result is None else result.speedup
