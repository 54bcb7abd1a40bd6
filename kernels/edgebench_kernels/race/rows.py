"""A race's result: rows with the keys that readers rely on, and their geometric means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SUMMARY_KEYS = ("percent_of_bandwidth", "percent_of_compute", "ratio_to_best_peer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender at one shape and number of tokens. None: not measured, or not defined.

    ms is the median over rounds of one product, ms_iqr its interquartile range. Shares compare with
    the ceilings of the same round; ratio_to_best_peer is the median over rounds of the time of the
    fastest peer (by median) over this one's: above 1 is faster.
    """

    op: str
    n: int
    k: int
    m: int
    group: int | None
    isa: str | None
    threads: int
    ms: float | None
    ms_iqr: float | None
    weight_gb_per_s: float | None
    gflops: float | None
    percent_of_bandwidth: float | None
    percent_of_compute: float | None
    rel_error: float | None
    peer: str | None
    ratio_to_best_peer: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Geometric means over the shapes of one contender at one number of tokens."""

    op: str
    peer: str | None
    m: int
    shapes: int
    percent_of_bandwidth: float | None
    percent_of_compute: float | None
    ratio_to_best_peer: float | None


def interquartile_range(values: Sequence[float]) -> float:
    """Of at least one value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def summarize(rows: Iterable[Row]) -> list[Mean]:
    """One `Mean` per (m, contender) of the rows that were timed."""
    together: dict[tuple[int, str | None, str], list[Row]] = {}
    for row in rows:
        if row.ms is not None:
            together.setdefault((row.m, row.peer, row.op), []).append(row)
    ordered = sorted(together.items(), key=lambda item: (item[0][0], item[0][1] or "", item[0][2]))
    return [
        Mean(op=op, peer=peer, m=m, shapes=len(some), **_means(some))
        for (m, peer, op), some in ordered
    ]


def _means(rows: Sequence[Row]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for key in SUMMARY_KEYS:
        values = [getattr(row, key) for row in rows]
        known = None not in values
        means[key] = math.exp(statistics.fmean(map(math.log, values))) if known else None
    return means
