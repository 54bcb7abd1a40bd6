"""Judgements: what a test measured, the limit it stood against, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgebench.audit.intervals import Interval

Verdict = Literal["passed", "caught", "unsure", "not applicable", "failed"]
"""unsure: the interval holds the limit; failed: the test could not run to its end."""

SEVERITY: tuple[Verdict, ...] = ("caught", "failed", "unsure", "passed", "not applicable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of a test, or the reason why there is none."""

    what: str
    verdict: Verdict
    value: float | None = None
    interval: tuple[float, float] | None = None
    limit: str = ""
    note: str = ""


def worst(measures: Sequence[Measure]) -> Verdict:
    """A test's verdict: that of its worst measure."""
    found = {measure.verdict for measure in measures}
    return next((verdict for verdict in SEVERITY if verdict in found), "not applicable")


def at_least(what: str, found: Interval | None, low: float) -> Measure:
    """Judge a ratio that may not fall below a limit."""
    return _judged(what, found, low, None, f">= {low:g}")


def within(what: str, found: Interval | None, tolerance: float) -> Measure:
    """Judge a ratio that must stay near 1; the limits are 1 - tolerance and its inverse."""
    low = 1 - tolerance
    return _judged(what, found, low, 1 / low, f"{low:.2f} .. {1 / low:.2f}")


def counted(what: str, faults: int, of: int, allowed: int, example: str = "") -> Measure:
    """Judge a count of faults."""
    return Measure(
        what=what,
        verdict="caught" if faults > allowed else "passed",
        value=float(faults),
        limit=f"<= {allowed} of {of}",
        note=example if faults else "",
    )


def absent(what: str, reason: str) -> Measure:
    """Say why a measure could not be taken."""
    return Measure(what=what, verdict="not applicable", note=reason)


def _judged(
    what: str, found: Interval | None, low: float | None, high: float | None, limit: str
) -> Measure:
    if found is None:
        return Measure(what=what, verdict="unsure", limit=limit, note="too few values to tell")
    floor, ceiling = -float("inf") if low is None else low, float("inf") if high is None else high
    if found.low >= floor and found.high <= ceiling:
        verdict: Verdict = "passed"
    elif found.high < floor or found.low > ceiling:
        verdict = "caught"
    else:
        verdict = "unsure"
    return Measure(
        what=what,
        verdict=verdict,
        value=found.value,
        interval=(found.low, found.high),
        limit=limit,
    )
