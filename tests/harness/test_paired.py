"""Paired comparisons: closed-form anchors, coverage, and verdicts on planted effects."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats as scipy_stats

from edgebench import paired


def test_the_estimate_is_the_median_of_pairwise_means() -> None:
    effect = paired.paired_effect([1.0, 2.0, 6.0])
    assert effect is not None
    # 1, 1.5, 2, 3.5, 4, 6: the median of six is (2 + 3.5) / 2
    assert effect.estimate == 2.75
    assert effect.interval is None  # 2^-3 > 0.005


def test_the_cut_is_that_of_the_published_table() -> None:
    # Hollander and Wolfe, table A.4: P[W+ <= c] <= 0.025: n = 6: 0, n = 8: 3, n = 10: 8, n = 15: 25
    assert [paired._rank_sum_cut(n, 0.025) for n in (5, 6, 8, 10, 15)] == [None, 0, 3, 8, 25]


def test_exact_and_approximate_cuts_meet() -> None:
    exact = paired._rank_sum_cut(64, 0.005)
    mean, spread = 64 * 65 / 4, math.sqrt(64 * 65 * 129 / 24)
    approximate = mean + spread * statistics.NormalDist().inv_cdf(0.005) - 0.5
    assert exact is not None
    assert abs(exact - approximate) < 6  # of a spread of 149.5


def test_the_interval_is_where_the_test_stops_rejecting() -> None:
    values = list(np.random.default_rng(1).normal(0.1, 1.0, 12))
    effect = paired.paired_effect(values, 0.95)
    assert effect is not None
    assert effect.interval is not None
    low, high = effect.interval
    for inside in (low + 1e-9, high - 1e-9):
        assert scipy_stats.wilcoxon([v - inside for v in values]).pvalue > 0.05
    for outside in (low - 1e-9, high + 1e-9):
        assert scipy_stats.wilcoxon([v - outside for v in values]).pvalue <= 0.05


def test_the_interval_covers() -> None:
    """At 99 % of 2,000 draws at most 36 misses: P[Bin(2000, .01) > 36] < 5e-4."""
    draw = np.random.default_rng(2)
    misses = 0
    for _ in range(2000):
        effect = paired.paired_effect(list(draw.laplace(0.05, 0.02, 16)), 0.99)
        assert effect is not None
        assert effect.interval is not None
        misses += not effect.interval[0] <= 0.05 <= effect.interval[1]
    assert misses <= 36


@pytest.mark.parametrize(
    ("shift", "noise", "limit_percent", "said"),
    [
        (0.05, 0.005, 2.0, "SLOWER"),
        (-0.05, 0.005, 2.0, "FASTER"),
        (0.0, 0.005, 2.0, "SAME"),
        (0.0, 0.2, 2.0, "UNSURE"),
        (0.012, 0.004, 1.5, "UNSURE"),  # there, and smaller than what counts
    ],
)
def test_verdicts(shift: float, noise: float, limit_percent: float, said: str) -> None:
    steps = [noise * step for step in (-1, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1)]
    effect = paired.paired_effect([shift + step for step in steps])
    assert paired.judge(effect, paired.log_ratio(limit_percent)) == said


def test_a_disturbed_pair_does_not_hide_a_verdict_from_ranks() -> None:
    ratios = [0.001 * n for n in range(-8, 8)] + [0.25]
    effect = paired.paired_effect(ratios)
    assert effect is not None
    assert effect.t_interval is not None
    assert paired.judge(effect, paired.log_ratio(2)) == "SAME"
    assert effect.t_interval[1] > paired.log_ratio(2)


def test_without_an_interval_it_is_unsure() -> None:
    assert paired.judge(None, 0.01) == "UNSURE"
    assert paired.judge(paired.paired_effect([0.5] * 7), 0.01) == "UNSURE"  # 2^-7 > 0.005
    assert paired.paired_effect([]) is None
    assert paired.smallest_visible(None, 0.01) is None


def test_the_smallest_visible_effect_is_the_limit_or_the_half_width() -> None:
    tight = paired.paired_effect([0.001 * n for n in range(-8, 9)])
    wide = paired.paired_effect([0.02 * n for n in range(-8, 9)])
    assert paired.smallest_visible(tight, 0.02) == 0.02
    assert wide is not None
    assert paired.smallest_visible(wide, 0.02) == wide.half_width


def test_ratios_and_percent() -> None:
    assert paired.log_ratios([2.0], [2.1]) == [pytest.approx(paired.log_ratio(5))]
    assert paired.percent(paired.log_ratio(-5)) == pytest.approx(-5)
    with pytest.raises(ValueError, match="pairs"):
        paired.log_ratios([1.0], [])
    with pytest.raises(ValueError, match="positive"):
        paired.log_ratios([0.0], [1.0])


def test_false_discoveries_of_a_night_are_held() -> None:
    """Sixty cells of nothing: at most q of the nights hold any; 500 nights at 1 % see < 15."""
    draw = np.random.default_rng(3)
    nights = sum(
        any(paired.false_discoveries_held(list(draw.random(60)), 0.01)) for _ in range(500)
    )
    assert nights < 15  # P[Bin(500, .01) >= 15] < 2e-4
    assert paired.false_discoveries_held([1e-6, 0.5, 0.9], 0.01) == [True, False, False]
    assert paired.false_discoveries_held([], 0.01) == []


def test_p_values() -> None:
    assert paired.p_value([0.0, 0.0]) == 1.0
    signs = list(itertools.repeat(0.1, 8))
    assert paired.p_value([s * (1 + i) for i, s in enumerate(signs)]) == pytest.approx(2 / 2**8)
