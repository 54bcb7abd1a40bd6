"""The verdict: why a result is invalid, or is shown with a warning; each text opens with its rule.

Only what the result's own numbers show; order, pairs and provenance are the checker's.
"""

from __future__ import annotations

from edgebench.profiles import (
    EXTERNAL,
    MIN_QUERIES_FOR_P90,
    ROOFLINE_INVALID_PERCENT,
    ROOFLINE_WARN_PERCENT,
    Counts,
)
from edgebench.record import KernelResult, Scenario

UNCHECKED = "E-02"


def invalid_reasons(result: KernelResult, counts: Counts, scored_count: int) -> list[str]:
    """Return the reasons why a result breaks its own profile's counts or the roofline."""
    reasons = []
    if result.duration_s < counts.min_duration_s:
        reasons.append(f"D-01: measured {result.duration_s:.1f} s of {counts.min_duration_s:g} s")
    if result.queries < counts.min_queries:
        reasons.append(f"D-02: {result.queries} queries of {counts.min_queries}")
    needed = scored_count if counts.scored_on == "scored-set" else 1
    if result.accuracy_samples < needed:
        reasons.append(f"Q-07: scored {result.accuracy_samples} samples of {needed}")
    for what, percent in _percentages(result):
        if percent > ROOFLINE_INVALID_PERCENT:
            reasons.append(f"R-03: {percent:.1f} % of {what} > {ROOFLINE_INVALID_PERCENT:g} %")
    return reasons


def warnings(result: KernelResult, scenario: Scenario) -> list[str]:
    """Return what a reader should know beside a result that counts."""
    texts = [
        f"R-04: {percent:.1f} % of {what} is at the ceiling"
        for what, percent in _percentages(result)
        if ROOFLINE_WARN_PERCENT < percent <= ROOFLINE_INVALID_PERCENT
    ]
    if result.kernel == EXTERNAL:
        texts.append(f"{UNCHECKED}: an external engine: its weights, bytes and memory are unknown")
    if scenario == "single-stream" and result.queries < MIN_QUERIES_FOR_P90:
        texts.append(f"N-03: no p90 from {result.queries} queries of {MIN_QUERIES_FOR_P90}")
    return texts


def _percentages(result: KernelResult) -> list[tuple[str, float]]:
    named = (
        ("bandwidth", result.roofline.percent_of_bandwidth),
        ("compute", result.roofline.percent_of_compute),
    )
    return [(what, percent) for what, percent in named if percent is not None]
