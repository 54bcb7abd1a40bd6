"""The verdict: why a result is invalid, or is shown with a warning; each text opens with its rule.

Only what the result's own numbers show; order, pairs and provenance are the checker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgebench.profiles import (
    EXTERNAL,
    METER_DISAGREEMENT,
    MIN_QUERIES_FOR_P90,
    ROOFLINE_INVALID_PERCENT,
    ROOFLINE_WARN_PERCENT,
    Counts,
)
from edgebench.record import Ceiling, KernelResult, Scenario

UNCHECKED = "E-02"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTheRoof:
    """A share of a ceiling that no kernel reaches."""

    rule: Literal["R-03", "R-04"]
    what: str
    """bandwidth or compute"""
    percent: float
    """R-03: of the highest repeat of the ceiling; R-04: of their median."""
    limit: float


def over_the_roof(result: KernelResult, ceilings: Sequence[Ceiling]) -> list[OverTheRoof]:
    """Name what is above what this machine was seen to reach (R-03), or above its median (R-04).

    The median moves with a machine that others share, so that it alone invalidates nothing.
    """
    by_name = {ceiling.ceiling: ceiling for ceiling in ceilings}
    place = result.roofline
    found = []
    for what, percent, name in (
        ("bandwidth", place.percent_of_bandwidth, "read_bandwidth"),
        ("compute", place.percent_of_compute, place.compute_ceiling),
    ):
        if percent is None or name is None or name not in by_name:
            continue
        ceiling = by_name[name]
        of_highest = percent * ceiling.median / (ceiling.highest or ceiling.median)
        if of_highest > ROOFLINE_INVALID_PERCENT:
            found.append(OverTheRoof(
                rule="R-03", what=what, percent=of_highest, limit=ROOFLINE_INVALID_PERCENT
            ))  # fmt: skip
        elif percent > ROOFLINE_WARN_PERCENT:
            found.append(
                OverTheRoof(rule="R-04", what=what, percent=percent, limit=ROOFLINE_WARN_PERCENT)
            )
    return found


def invalid_reasons(
    result: KernelResult, counts: Counts, scored_count: int, ceilings: Sequence[Ceiling]
) -> list[str]:
    """Return the reasons why a result breaks its own profile's counts or the roofline."""
    reasons = []
    if result.duration_s < counts.min_duration_s:
        reasons.append(f"D-01: measured {result.duration_s:.1f} s of {counts.min_duration_s:g} s")
    if result.queries < counts.min_queries:
        reasons.append(f"D-02: {result.queries} queries of {counts.min_queries}")
    needed = scored_count if counts.scored_on == "scored-set" else 1
    if result.accuracy_samples < needed:
        reasons.append(f"Q-07: scored {result.accuracy_samples} samples of {needed}")
    reasons += [
        f"R-03: {over.percent:.1f} % of {over.what}'s highest repeat > {over.limit:g} %"
        for over in over_the_roof(result, ceilings)
        if over.rule == "R-03"
    ]
    return reasons


def warnings(result: KernelResult, scenario: Scenario, ceilings: Sequence[Ceiling]) -> list[str]:
    """Return what a reader should know beside a result that counts."""
    texts = [
        f"R-04: {over.percent:.1f} % of {over.what} is at the ceiling"
        for over in over_the_roof(result, ceilings)
        if over.rule == "R-04"
    ]
    if result.kernel == EXTERNAL:
        texts.append(f"{UNCHECKED}: an external engine: its weights, bytes and memory are unknown")
    texts += disagreements(result)
    if scenario == "single-stream" and result.queries < MIN_QUERIES_FOR_P90:
        texts.append(f"N-03: no p90 from {result.queries} queries of {MIN_QUERIES_FOR_P90}")
    return texts


def disagreements(result: KernelResult) -> list[str]:
    """Name every meter of the same thing whose mean power is another than the reported one."""
    reported = result.energy
    texts = []
    for other in result.energy_beside:
        watts, theirs = reported.mean_power_W, other.mean_power_W
        if not watts or not theirs or not reported.covers or other.covers != reported.covers:
            continue
        share = abs(theirs - watts) / watts
        if share > METER_DISAGREEMENT:
            texts.append(
                f"P-03: {other.meter} {other.domain} saw {theirs:.1f} W where {reported.meter} "
                f"{reported.domain} saw {watts:.1f} W: {100 * share:.0f} % apart"
            )
    return texts
