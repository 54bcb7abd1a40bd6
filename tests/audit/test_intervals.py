"""Intervals cover what they say, and decisions follow from where they lie."""

from __future__ import annotations

import random

import pytest

from edgebench.audit.intervals import Interval, bootstrap_median, difference, wilson
from edgebench.audit.judgement import Measure, Verdict, at_least, within, worst


def test_wilson_has_its_closed_form() -> None:
    """k = n: the lower end is n / (n + z^2); k = 0: the upper end is z^2 / (n + z^2)."""
    assert wilson(50, 50, 2.0) == (pytest.approx(50 / 54), 1.0)
    assert wilson(0, 50, 2.0) == (0.0, pytest.approx(4 / 54))
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_difference_of_equal_shares_holds_zero_and_turns_its_sign() -> None:
    same = difference((90, 100), (90, 100))
    assert same.value == 0
    assert same.low < 0 < same.high
    one, other = difference((95, 100), (60, 100)), difference((60, 100), (95, 100))
    assert one.low > 0
    assert (one.low, one.high) == (pytest.approx(-other.high), pytest.approx(-other.low))


def test_a_difference_covers_the_true_one() -> None:
    """At 2 sigma some 95 % of intervals hold the true 0.1; 400 trials: 3 sigma are 3.3 %."""
    source, held = random.Random(5), 0
    for _ in range(400):
        k = [sum(source.random() < share for _ in range(200)) for share in (0.9, 0.8)]
        found = difference((k[0], 200), (k[1], 200), 2.0)
        held += found.low <= 0.1 <= found.high
    assert held / 400 >= 0.95 - 0.033


@pytest.mark.parametrize("size", [1, 4])
def test_a_bootstrap_covers_the_median_though_blocks_swing_together(size: int) -> None:
    """24 blocks, each with a swing as large as the noise; percentile intervals of so few
    are a little narrow, so 90 % of 95 % is asked for.
    """
    source, held = random.Random(size), 0
    for trial in range(120):
        values, clusters = [], []
        for block in range(24):
            swing = source.gauss(0, 0.05)
            for _ in range(size):
                values.append(1 + swing + source.gauss(0, 0.05))
                clusters.append(block)
        found = bootstrap_median(values, clusters, trial)
        assert found is not None
        held += found.low <= 1 <= found.high
    assert held >= 0.9 * 120


def test_values_of_one_block_say_nothing() -> None:
    assert bootstrap_median([1.0] * 50, [7] * 50, 1) is None
    with pytest.raises(ValueError, match="3 values of 2 clusters"):
        bootstrap_median([1.0] * 3, [1, 2], 1)


def test_blocks_of_unlike_size_are_drawn_as_blocks() -> None:
    found = bootstrap_median([1.0, 1.0, 1.0, 2.0, 3.0, 3.0], [0, 0, 0, 1, 2, 3], 1)
    assert found is not None
    assert found.value == 1.5
    assert 1.0 <= found.low <= found.high <= 3.0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.95, 1.02, "passed"), (0.80, 0.89, "caught"), (0.85, 0.95, "unsure"), (2.0, 3.0, "passed")],
)
def test_at_least(low: float, high: float, verdict: Verdict) -> None:
    found = at_least("x", Interval(value=(low + high) / 2, low=low, high=high), 0.9)
    assert (found.verdict, found.interval) == (verdict, (low, high))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.97, 1.04, "passed"), (1.06, 1.2, "caught"), (0.9, 0.94, "caught"), (1.0, 1.2, "unsure")],
)
def test_within(low: float, high: float, verdict: Verdict) -> None:
    assert within("x", Interval(value=low, low=low, high=high), 0.05).verdict == verdict


def test_nothing_measured_is_unsure() -> None:
    assert at_least("x", None, 0.9).verdict == "unsure"


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (("passed", "caught", "unsure"), "caught"),
        (("passed", "unsure"), "unsure"),
        (("not applicable", "passed"), "passed"),
        (("not applicable",), "not applicable"),
        ((), "not applicable"),
    ],
)
def test_the_worst_measure_is_the_verdict(verdicts: tuple[Verdict, ...], verdict: Verdict) -> None:
    assert worst([Measure(what="x", verdict=one) for one in verdicts]) == verdict
