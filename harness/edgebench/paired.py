"""Paired comparisons: an effect with its interval from log-ratios, a verdict that may be UNSURE.

An effect is ln(candidate time / baseline time): above 0 is slower. The estimate is Hodges and
Lehmann's, the median of all pairwise means; its interval inverts Wilcoxon's signed-rank test, so
that a disturbed pair moves neither far. Source: Hollander and Wolfe, Nonparametric Statistical
Methods, §3.2-3.3.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["FASTER", "SLOWER", "SAME", "UNSURE"]

PRACTICAL_LIMIT_PERCENT = 1.0  # nothing smaller is ever called a change
CONFIDENCE = 0.99
MAX_EXACT_PAIRS = 64  # beyond it the normal approximation of the rank sum is good to 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A paired effect in log units, with a two-sided interval."""

    estimate: float
    interval: tuple[float, float] | None
    """None with too few pairs for the confidence."""
    t_interval: tuple[float, float] | None
    """Student's, beside it: far wider where a few pairs were disturbed."""
    pairs: int
    confidence: float

    @property
    def half_width(self) -> float | None:
        """The larger distance from the estimate to an end of its interval."""
        if self.interval is None:
            return None
        return max(self.interval[1] - self.estimate, self.estimate - self.interval[0])


def percent(log_ratio: float) -> float:
    """Return a log-ratio as a change in percent: ln 1.05 is +5."""
    return 100 * math.expm1(log_ratio)


def log_ratio(change_percent: float) -> float:
    """Return a change in percent as a log-ratio: +5 is ln 1.05."""
    return math.log1p(change_percent / 100)


def log_ratios(baseline: Sequence[float], candidate: Sequence[float]) -> list[float]:
    """Return ln(candidate / baseline) of every pair; ValueError unless all are positive, finite."""
    if len(baseline) != len(candidate):
        raise ValueError(f"[paired] expected pairs, got {len(baseline)} and {len(candidate)}")
    if not all(value > 0 and math.isfinite(value) for value in (*baseline, *candidate)):
        raise ValueError("[paired] every time of a pair must be positive and finite")
    return [math.log(own / base) for base, own in zip(baseline, candidate, strict=True)]


def paired_effect(ratios: Sequence[float], confidence: float = CONFIDENCE) -> Effect | None:
    """Return Hodges-Lehmann's estimate of some log-ratios with Wilcoxon's interval; None of none.

    Assumes independent pairs from a distribution that is symmetric about the effect.
    """
    if not ratios:
        return None
    means = _walsh_averages(ratios)
    below = _rank_sum_cut(len(ratios), (1 - confidence) / 2)
    interval = None if below is None else (means[below], means[-1 - below])
    return Effect(
        estimate=statistics.median(means),
        interval=interval,
        t_interval=_t_interval(ratios, confidence),
        pairs=len(ratios),
        confidence=confidence,
    )


def judge(effect: Effect | None, limit: float) -> Verdict:
    """Judge an effect against the smallest change that counts, `limit` > 0 in log units.

    SLOWER and FASTER need an interval that excludes no change and an estimate beyond the limit;
    SAME needs the whole interval within it; all else is UNSURE.
    """
    if effect is None or effect.interval is None:
        return "UNSURE"
    low, high = effect.interval
    if low > 0 and effect.estimate > limit:
        return "SLOWER"
    if high < 0 and effect.estimate < -limit:
        return "FASTER"
    return "SAME" if -limit < low and high < limit else "UNSURE"


def smallest_visible(effect: Effect | None, limit: float) -> float | None:
    """Return the smallest change, in log units, that such a comparison could have called one."""
    if effect is None or effect.half_width is None:
        return None
    return max(limit, effect.half_width)


def p_value(ratios: Sequence[float]) -> float:
    """Return Wilcoxon's two-sided p of no effect; 1 where every ratio is zero or none is given."""
    from scipy.stats import wilcoxon

    moved = [ratio for ratio in ratios if ratio]
    return float(wilcoxon(moved).pvalue) if moved else 1.0


def false_discoveries_held(p_values: Sequence[float], rate: float) -> list[bool]:
    """Return which cells survive Benjamini and Hochberg's control of false discoveries."""
    if not p_values:
        return []
    from scipy.stats import false_discovery_control

    return [bool(adjusted <= rate) for adjusted in false_discovery_control(list(p_values))]


def _walsh_averages(values: Sequence[float]) -> list[float]:
    return sorted(
        (one + other) / 2 for place, one in enumerate(values) for other in values[: place + 1]
    )


def _rank_sum_cut(pairs: int, tail: float) -> int | None:
    """Return the largest c with P[W+ <= c] <= tail under no effect; None where even 0 is likelier.

    W+ is the sum of a random subset of 1..n. Exact by counting subsets up to 64 pairs.
    """
    if pairs > MAX_EXACT_PAIRS:
        mean = pairs * (pairs + 1) / 4
        spread = math.sqrt(pairs * (pairs + 1) * (2 * pairs + 1) / 24)
        return math.floor(mean + spread * statistics.NormalDist().inv_cdf(tail) - 0.5)
    counts = [1]  # of subsets by their sum
    for rank in range(1, pairs + 1):
        grown = counts + [0] * rank
        for total, count in enumerate(counts):
            grown[total + rank] += count
        counts = grown
    allowed = tail * 2**pairs
    seen, cut = 0, -1
    for total, count in enumerate(counts):
        seen += count
        if seen > allowed:
            break
        cut = total
    return cut if cut >= 0 else None


def _t_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    middle, spread = statistics.fmean(values), statistics.stdev(values)
    quantile = float(stdtrit(len(values) - 1, 1 - (1 - confidence) / 2))
    half = quantile * spread / math.sqrt(len(values))
    return middle - half, middle + half
