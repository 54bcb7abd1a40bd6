"""Intervals: a bootstrap of medians over blocks, and binomial differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
SIGMAS = 3.0  # as PINNED_SIGMAS: an honest system is accused once in 700 tests of both sides
FEWEST_CLUSTERS = 4  # below that, resampled blocks say nothing of a drift


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with the interval around it."""

    value: float
    low: float
    high: float


def bootstrap_median(
    values: Sequence[float], clusters: Sequence[int], seed: int
) -> Interval | None:
    """The median with a percentile interval at 95 % from resampled clusters.

    clusters[i] names the block that values[i] was measured in: whatever the machine did to a block
    it did to all of it, so blocks are drawn with replacement, not values (Davison and Hinkley,
    Bootstrap Methods, 1997, section 3.8). None with fewer than four blocks.
    """
    if len(values) != len(clusters):
        raise ValueError(f"[intervals] {len(values)} values of {len(clusters)} clusters")
    groups: dict[int, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    if len(groups) < FEWEST_CLUSTERS:
        return None
    parts = [np.asarray(group) for _, group in sorted(groups.items())]
    drawn = np.random.Generator(np.random.Philox(seed)).integers(
        len(parts), size=(RESAMPLES, len(parts))
    )
    if len({len(part) for part in parts}) == 1:  # all at once, which is much the faster
        medians = np.median(np.stack(parts)[drawn].reshape(RESAMPLES, -1), axis=1)
    else:
        each = [np.median(np.concatenate([parts[i] for i in row])) for row in drawn]
        medians = np.asarray(each)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return Interval(value=float(np.median(values)), low=float(low), high=float(high))


def wilson(successes: int, trials: int, sigmas: float = SIGMAS) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share, square = successes / trials, sigmas**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = sigmas / (1 + square / trials)
    half *= math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(one: tuple[int, int], other: tuple[int, int], sigmas: float = SIGMAS) -> Interval:
    """The difference of two proportions, one - other, by Newcombe's method 10 (1998).

    Each is (successes, trials).
    """
    (k1, n1), (k2, n2) = one, other
    p1, p2 = k1 / n1, k2 / n2
    (l1, u1), (l2, u2) = wilson(k1, n1, sigmas), wilson(k2, n2, sigmas)
    return Interval(
        value=p1 - p2,
        low=p1 - p2 - math.hypot(p1 - l1, u2 - p2),
        high=p1 - p2 + math.hypot(u1 - p1, p2 - l2),
    )
