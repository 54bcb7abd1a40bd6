"""Statistics: closed-form anchors, LoadGen's published counts, intervals tested for coverage."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import accumulate
from math import comb

import pytest

from edgebench import stats


@pytest.mark.parametrize(
    ("percentile", "floor"),
    [(0.5, 11), (0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6636)],
)
def test_floor_of_an_estimate(percentile: float, floor: int) -> None:
    assert stats.early_stopping_floor(percentile) == floor
    assert stats.early_stopping_discards(floor, percentile) == 0
    assert stats.early_stopping_discards(floor - 1, percentile) is None


def test_floor_without_a_miss_is_a_logarithm() -> None:
    # 0.99^n <= 0.01 <=> n >= ln 0.01 / ln 0.99 = 458.2
    assert stats.early_stopping_floor(0.99, misses=0) == 459
    # 1 - confidence = 2^-k and percentile 1/2: n = k exactly, with equality allowed
    assert stats.early_stopping_floor(0.5, confidence=0.9375, misses=0) == 4


@pytest.mark.parametrize(
    ("queries", "percentile", "discarded"),
    [
        (80_001, 0.90, 7801),  # measured with LoadGen 6.0.17
        (20_001, 0.99, 166),  # measured with LoadGen 6.0.17
        (118, 0.90, 3),  # measured with LoadGen 6.0.17
        (13_368, 0.90, 1255),  # published: MLPerf Inference v4.0, Orin, GPT-J single-stream
    ],
)
def test_discards_are_loadgens(queries: int, percentile: float, discarded: int) -> None:
    assert stats.early_stopping_discards(queries, percentile) == discarded


def loadgen_discards(queries: int, percentile: Fraction, confidence: Fraction) -> int | None:
    """LoadGen's own definition in exact arithmetic: the largest t with queries >= h(t) + t."""

    def smallest_h(t: int) -> int:
        h = 1
        while True:
            n = h + t
            tail = sum(
                comb(n, x) * (1 - percentile) ** x * percentile ** (n - x) for x in range(t + 1)
            )
            if tail <= 1 - confidence:
                return h
            h += 1

    t = 0
    while queries >= smallest_h(t + 1) + t + 1:
        t += 1
    return t - 1 if t else None


@pytest.mark.parametrize("queries", [1, 10, 11, 12, 40, 63, 64, 65, 93, 94, 120])
@pytest.mark.parametrize("percentile", [Fraction(1, 2), Fraction(9, 10)])
def test_discards_equal_the_definition_in_exact_arithmetic(
    queries: int, percentile: Fraction
) -> None:
    exact = loadgen_discards(queries, percentile, Fraction(99, 100))
    assert stats.early_stopping_discards(queries, float(percentile)) == exact


def test_a_million_queries_are_no_sum_over_a_million_terms() -> None:
    # Normal approximation: n q - 2.326 sqrt(n q (1 - q)) = 99 302; the skew moves it by about one.
    discarded = stats.early_stopping_discards(1_000_000, 0.90)
    assert discarded is not None
    assert abs(discarded + 1 - 99_302) <= 3


def test_estimate_is_the_t_th_largest() -> None:
    latencies = list(range(1, 501))
    random.Random(1).shuffle(latencies)
    estimate = stats.early_stopping_estimate_ns(latencies, 0.90)
    assert estimate is not None
    assert (estimate.queries, estimate.discarded) == (500, 33)
    assert estimate.estimate_ns == 500 - 33
    assert (estimate.percentile, estimate.confidence) == (0.90, 0.99)


def test_no_estimate_below_the_floor() -> None:
    assert stats.early_stopping_estimate_ns([5] * 63, 0.90) is None
    assert stats.early_stopping_estimate_ns([], 0.90) is None
    at_floor = stats.early_stopping_estimate_ns([*range(63), 1000], 0.90)
    assert at_floor is not None
    assert at_floor.estimate_ns == 1000  # 64 queries: nothing is discarded


def test_estimate_bounds_the_true_percentile_with_its_confidence() -> None:
    # P[estimate < true p90] <= 1 %; over 2000 runs of a uniform distribution more than 40 misses
    # (mean <= 20, standard deviation 4.4) happen once in 100,000 seeds.
    source = random.Random(20)
    misses = 0
    for _ in range(2000):
        estimate = stats.early_stopping_estimate_ns(
            [source.getrandbits(30) for _ in range(128)], 0.90
        )
        assert estimate is not None
        misses += estimate.estimate_ns < 0.9 * 2**30
    assert 1 <= misses <= 40


@pytest.mark.parametrize("percentile", [0.0, 1.0, 90, -0.5])
def test_a_percentile_is_a_fraction(percentile: float) -> None:
    with pytest.raises(ValueError, match=r"write 0.90 for p90"):
        stats.early_stopping_floor(percentile)


def test_percentile_raw_is_loadgens_order_statistic() -> None:
    assert stats.percentile_raw([3, 1, 2], 0.5) == 2
    assert stats.percentile_raw(range(100), 0.90) == 90  # not 89.1 and not 89
    assert stats.percentile_raw([7], 0.90) == 7
    assert stats.percentile_raw([], 0.90) is None
    with pytest.raises(ValueError, match=r"fraction in \[0, 1\), got 90"):
        stats.percentile_raw([1], 90)


def test_ttft_and_tpot() -> None:
    assert stats.ttft_ns(100, 350) == 250
    assert stats.tpot_ns(1000, 200, 5) == 200.0
    assert stats.tpot_ns(1000, 1000, 1) is None  # LoadGen divides by n - 1 = 0
    assert stats.tpot_ns(1000, 200, 0) is None


def test_median() -> None:
    assert stats.median([3, 1, 2]) == 2
    assert stats.median([4, 1, 2, 3]) == 2.5
    assert stats.median([]) is None


@pytest.mark.parametrize(
    ("count", "interval"),
    [(0, None), (5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (20, (6, 15)), (25, (8, 18))],
)
def test_median_interval_ranks_are_the_published_table(
    count: int, interval: tuple[int, int] | None
) -> None:
    # Ranks as in Conover, Practical Nonparametric Statistics, table A3 (binomial, p = 1/2).
    assert stats.median_confidence_interval(range(1, count + 1)) == interval


@pytest.mark.parametrize("count", [6, 7, 20, 64, 128, 511])
def test_median_interval_is_the_narrowest_that_covers(count: int) -> None:
    low, high = stats.median_confidence_interval(range(count)) or (-1, -1)
    tails = list(accumulate(Fraction(comb(count, x), 2**count) for x in range(count + 1)))
    assert high == count - 1 - low
    assert 2 * tails[low] <= Fraction(5, 100) < 2 * tails[low + 1]


def test_confidence_is_a_fraction() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        stats.median_confidence_interval([1] * 10, confidence=95)


def test_paired_speedup_cancels_what_hit_both() -> None:
    candidate = [10.0, 20.0, 400.0, 30.0, 10.0, 15.0, 12.0]
    reference = [2.0 * latency for latency in candidate]
    assert stats.paired_speedup(reference, candidate, range(7)) == stats.Speedup(
        ratio=2.0, ci95=(2.0, 2.0), pairs=7
    )


def test_offline_speedup_is_the_median_of_rounds() -> None:
    speedup = stats.offline_speedup([10.0] * 6, [20.0, 21.0, 22.0, 23.0, 24.0, 90.0])
    assert speedup == stats.Speedup(ratio=2.25, ci95=(2.0, 9.0), pairs=6)
    few = stats.offline_speedup([10.0] * 5, [20.0] * 5)
    assert few == stats.Speedup(ratio=2.0, ci95=None, pairs=5)


def test_no_pairs_no_speedup() -> None:
    assert stats.paired_speedup([], [], []) is None


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speedup_of_impossible_times_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="every latency of a pair must be positive and finite"):
        stats.paired_speedup([1.0, bad], [1.0, 1.0], [0, 1])
    with pytest.raises(ValueError, match="every rate of a pair must be positive and finite"):
        stats.offline_speedup([1.0, 1.0], [bad, 1.0])


def test_pairs_have_two_sides() -> None:
    with pytest.raises(ValueError, match="expected pairs, got 2 and 1 latency values"):
        stats.paired_speedup([1.0, 2.0], [1.0], [0, 1])


@pytest.mark.parametrize(("pairs", "true_ratio"), [(6, 1.5), (20, 1.0), (128, 2.5)])
def test_speedup_interval_covers_at_its_level_on_a_drifting_machine(
    pairs: int, true_ratio: float
) -> None:
    # Latencies share a drift of x3 that cancels in each pair; own noise is log-normal, so the
    # median ratio is true_ratio exactly. Coverage >= 95 %: of 2000 intervals at least 1870 hold it
    # (mean >= 1900, standard deviation <= 9.7).
    source = random.Random(pairs)
    covered = 0
    for _ in range(2000):
        drift = [1 + 2 * pair / pairs for pair in range(pairs)]
        candidate = [d * source.lognormvariate(0, 0.1) for d in drift]
        reference = [true_ratio * d * source.lognormvariate(0, 0.1) for d in drift]
        speedup = stats.paired_speedup(reference, candidate, range(pairs))
        assert speedup is not None
        assert speedup.ci95 is not None
        low, high = speedup.ci95
        assert low <= speedup.ratio <= high
        covered += low <= true_ratio <= high
    assert covered >= 1870


def test_the_interval_covers_where_queries_of_a_block_swing_together() -> None:
    # Every block of every kernel has its own disturbance, common to its 50 queries: an interval
    # over queries would be as narrow as their noise, and miss nearly always.
    source = random.Random(6)
    covered = 0
    for _ in range(1000):
        reference, candidate, blocks = [], [], []
        for block in range(6):
            shared = [source.lognormvariate(0, 0.1) for _ in range(2)]
            for _ in range(50):
                reference.append(2.0 * shared[0] * source.lognormvariate(0, 0.01))
                candidate.append(shared[1] * source.lognormvariate(0, 0.01))
                blocks.append(block)
        speedup = stats.paired_speedup(reference, candidate, blocks)
        assert speedup is not None
        assert speedup.ci95 is not None
        covered += speedup.ci95[0] <= 2.0 <= speedup.ci95[1]
    assert covered >= 940  # mean 969, standard deviation 5.5
