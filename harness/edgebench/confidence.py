"""What a count of queries or rounds buys: which percentile holds, how wide a ratio's interval is.

Said before measuring, from the counts and a pilot's spread; never part of a record.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from statistics import NormalDist

from edgebench.profiles import EARLY_STOPPING_CONFIDENCE, LATENCY_PERCENTILE
from edgebench.stats import (
    early_stopping_discards,
    early_stopping_floor,
    median_confidence_interval,
)

MIN_RATIOS = 3  # of a pilot: fewer say nothing of a spread
TAIL_PERCENTILE = 0.99  # MLPerf's tail of MultiStream and Server: 662 queries


def percentile_words(queries: int) -> str:
    """Say which percentiles early stopping can speak of after so many single-stream queries."""
    confidence = f"{100 * EARLY_STOPPING_CONFIDENCE:g} % confidence"
    said = []
    for percentile in (LATENCY_PERCENTILE, TAIL_PERCENTILE):
        name = f"p{100 * percentile:g}"
        discards = early_stopping_discards(queries, percentile, EARLY_STOPPING_CONFIDENCE)
        if discards is None:
            floor = early_stopping_floor(percentile, EARLY_STOPPING_CONFIDENCE)
            said.append(f"no {name} (needs {floor} queries)")
            continue
        rank = 100 * (1 - (discards + 1) / queries)
        said.append(f"{name} at {confidence}, read off at {rank:.1f} % of them")
    return "; ".join(said)


def expected_interval(ratios: Sequence[float], pairs: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a speedup that so many pairs should give, from a pilot's ratios.

    The interval runs between two order statistics of the ratios (stats.py); where those lie is
    expected by Blom's formula, for logarithms of ratios that are normal with the pilot's spread.
    None with fewer than three ratios of the pilot, or too few pairs for an interval.
    Source: G. Blom, Statistical Estimates and Transformed Beta-Variables, 1958.
    """
    order = median_confidence_interval(range(pairs))  # the ranks themselves
    if len(ratios) < MIN_RATIOS or order is None:
        return None
    logs = [math.log(ratio) for ratio in ratios]
    rank = order[0] + 1
    normal_score = NormalDist().inv_cdf((rank - 0.375) / (pairs + 0.25))
    half = abs(normal_score) * statistics.stdev(logs)
    middle = statistics.median(logs)
    return math.exp(middle - half), math.exp(middle + half)
