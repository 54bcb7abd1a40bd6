"""Statistics: MLPerf's early stopping, LoadGen's percentiles, and paired speedups with intervals.

Pure functions over plain numbers; the runner and the checker call the same ones. A percentile is
a fraction (0.90, not 90).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_NEGLIGIBLE = 1e-18  # of the sum so far: past double precision, so summing on changes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStoppingEstimate:
    """A percentile of which one may be confident, not the raw one: LoadGen's 'would discard'."""

    estimate_ns: int
    queries: int
    discarded: int
    percentile: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times faster the candidate is than the reference; above 1 is faster."""

    ratio: float
    ci95: tuple[float, float] | None
    pairs: int
    """Of blocks or rounds."""


def early_stopping_floor(percentile: float, confidence: float = 0.99, misses: int = 1) -> int:
    """Return the fewest queries on which early stopping can speak of this percentile.

    The smallest n with P[Bin(n, 1 - percentile) <= misses] <= 1 - confidence. An estimate needs
    misses=1, since LoadGen reports the t-th largest latency and t >= 1 (64 queries at p90, 662 at
    p99); a bound that no query may exceed, as in the server scenario, has misses=0 (459 at p99).

    Source: MLPerf inference_rules.adoc, appendix on early stopping, tolerance d = 0.
    """
    _check_percentile(percentile, confidence)
    too_few, enough = misses, misses + 1
    while _binomial_cdf(misses, enough, 1 - percentile) > 1 - confidence:
        too_few, enough = enough, enough * 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _binomial_cdf(misses, middle, 1 - percentile) > 1 - confidence:
            too_few = middle
        else:
            enough = middle
    return enough


def early_stopping_discards(
    queries: int, percentile: float, confidence: float = 0.99
) -> int | None:
    """Return how many of the highest latencies early stopping discards; None with too few queries.

    With h(t) the smallest h for which P[Bin(h + t, 1 - percentile) <= t] <= 1 - confidence, LoadGen
    looks for the largest t with queries >= h(t) + t. The probability falls as the queries grow, so
    that t is the largest one with P[Bin(queries, 1 - percentile) <= t] <= 1 - confidence.
    """
    _check_percentile(percentile, confidence)
    most = _largest_unlikely_count(queries, 1 - percentile, 1 - confidence)
    return most - 1 if most >= 1 else None


def early_stopping_estimate_ns(
    latencies_ns: Sequence[int], percentile: float, confidence: float = 0.99
) -> EarlyStoppingEstimate | None:
    """Estimate a latency percentile as LoadGen does: the t-th largest latency, t - 1 discarded."""
    discarded = early_stopping_discards(len(latencies_ns), percentile, confidence)
    if discarded is None:
        return None
    return EarlyStoppingEstimate(
        estimate_ns=sorted(latencies_ns)[-1 - discarded],
        queries=len(latencies_ns),
        discarded=discarded,
        percentile=percentile,
        confidence=confidence,
    )


def percentile_raw(values: Sequence[float], percentile: float) -> float | None:
    """Return sorted(values)[int(n * percentile)], LoadGen's definition (results.cc); None if empty.

    Nothing is interpolated, so the result is always a value that was measured.
    """
    if not 0 <= percentile < 1:
        raise ValueError(f"[stats] percentile must be a fraction in [0, 1), got {percentile}")
    return sorted(values)[int(len(values) * percentile)] if values else None


def ttft_ns(issued_ns: int, first_token_ns: int) -> int:
    """Return the time to first token, from issue (not from the start of prefill)."""
    return first_token_ns - issued_ns


def tpot_ns(latency_ns: int, first_ns: int, tokens: int) -> float | None:
    """Return the time per output token after the first; None where there is no second token.

    (latency - TTFT) / (tokens - 1), as LoadGen defines it; LoadGen divides by zero at one token.
    first_ns is the TTFT.
    """
    return (latency_ns - first_ns) / (tokens - 1) if tokens > 1 else None


def median(values: Sequence[float]) -> float | None:
    """Return the median, the mean of the middle two for an even count; None if empty."""
    return statistics.median(values) if values else None


def median_confidence_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the order-statistic interval of the median; None with too few values (n < 6 at 95 %).

    From the k-th smallest to the k-th largest value, with the largest k that keeps
    1 - 2 P[Bin(n, 1/2) <= k - 1] >= confidence. It holds for any continuous distribution of
    independent values; values that swing together in runs make it too narrow.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"[stats] confidence must lie between 0 and 1, got {confidence}")
    below = _largest_unlikely_count(len(values), 0.5, (1 - confidence) / 2)
    if below < 0:
        return None
    ordered = sorted(values)
    return ordered[below], ordered[-1 - below]


def paired_speedup(
    reference_ns: Sequence[float], candidate_ns: Sequence[float], blocks: Sequence[int]
) -> Speedup | None:
    """Return the single-stream speedup: the median of reference / candidate over paired blocks.

    reference_ns[i] and candidate_ns[i] are latencies of the same query, which ran in blocks[i]; a
    block counts as the median ratio of its queries. Queries of a block ran one after another, so
    what the machine did in the meantime they share: they are one piece of evidence, and their
    spread says nothing of how well the blocks agree. None without a pair; the interval needs at
    least six blocks.
    """
    ratios = _ratios(reference_ns, candidate_ns, "latency")
    by_block: dict[int, list[float]] = {}
    for ratio, block in zip(ratios, blocks, strict=True):
        by_block.setdefault(block, []).append(ratio)
    return _median_speedup([statistics.median(own) for own in by_block.values()])


def offline_speedup(
    reference_rates: Sequence[float], candidate_rates: Sequence[float]
) -> Speedup | None:
    """Return the offline speedup: the median of candidate / reference over paired rounds' rates.

    Rates are samples/s. The median of the rounds' ratios, not the ratio of the summed rates: a
    round that something disturbed moves it little, and the interval is of the same quantity. The
    interval needs at least six rounds.
    """
    return _median_speedup(_ratios(candidate_rates, reference_rates, "rate"))


def _ratios(numerators: Sequence[float], denominators: Sequence[float], what: str) -> list[float]:
    if len(numerators) != len(denominators):
        raise ValueError(
            f"[stats] expected pairs, got {len(numerators)} and {len(denominators)} {what} values"
        )
    if not all(value > 0 and math.isfinite(value) for value in (*numerators, *denominators)):
        raise ValueError(f"[stats] every {what} of a pair must be positive and finite")
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def _median_speedup(ratios: Sequence[float]) -> Speedup | None:
    if not ratios:
        return None
    return Speedup(
        ratio=statistics.median(ratios),
        ci95=median_confidence_interval(ratios),
        pairs=len(ratios),
    )


def _check_percentile(percentile: float, confidence: float) -> None:
    if not (0 < percentile < 1 and 0 < confidence < 1):
        raise ValueError(
            "[stats] percentile and confidence must be fractions between 0 and 1, "
            f"got {percentile} and {confidence}; write 0.90 for p90"
        )


def _largest_unlikely_count(trials: int, probability: float, alpha: float) -> int:
    """Return the largest t with P[Bin(trials, probability) <= t] <= alpha; -1 if none has."""
    unlikely, likely = -1, trials  # P[Bin(n, q) <= n] = 1 > alpha
    while likely - unlikely > 1:
        middle = (unlikely + likely) // 2
        if _binomial_cdf(middle, trials, probability) > alpha:
            likely = middle
        else:
            unlikely = middle
    return unlikely


def _binomial_cdf(successes: int, trials: int, probability: float) -> float:
    """Return P[Bin(trials, probability) <= successes] by summing down from its largest terms.

    The terms fall geometrically away from the mean, so some sqrt(trials) of them are enough;
    relative error some 1e-9 at 1e6 trials (lgamma), far below the steps between counts.
    """
    if successes >= trials:
        return 1.0
    if successes > trials * probability:  # the upper tail is the short one
        return 1.0 - _binomial_cdf(trials - successes - 1, trials, 1 - probability)
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(probability)
        + (trials - successes) * math.log1p(-probability)
    )
    odds = (1 - probability) / probability
    total = 0.0
    for count in range(successes, -1, -1):
        total += term
        if term <= total * _NEGLIGIBLE:
            break
        term *= odds * count / (trials - count + 1)
    return total
