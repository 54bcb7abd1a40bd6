"""What samples of several rounds say: medians with their spread, and ratios round by round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgebench_kernels.race.rows import interquartile_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A median over n rounds with its interquartile range."""

    median: float
    iqr: float
    n: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """Of the values of all rounds; None where there is none."""
    if not values:
        return None
    return Estimate(
        median=statistics.median(values), iqr=interquartile_range(values), n=len(values)
    )


def ratio(over: Sequence[float], under: Sequence[float]) -> Estimate | None:
    """Of over / under, round by round; rounds that only one of both has do not count."""
    return estimate([a / b for a, b in zip(over, under, strict=False)])


def sums(parts: Sequence[Sequence[float]]) -> list[float]:
    """The sum of all parts, round by round; empty where a part has no rounds."""
    if not parts or not all(parts):
        return []
    return [sum(values) for values in zip(*parts, strict=False)]
