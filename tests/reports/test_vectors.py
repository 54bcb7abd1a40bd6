"""Ticks of the small pictures are round numbers within their range."""

from __future__ import annotations

import pytest

from edgebench_reports.vectors import ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 100.0, [0, 20, 40, 60, 80, 100]),
        (1.173, 30.49, [5, 10, 15, 20, 25, 30]),
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 5.0, [-2, 0, 2, 4]),
        (7.0, 7.0, [7.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("high", [0.0017, 0.9, 4.0, 49.9, 7e9])
def test_four_to_ten_steps_and_never_outside(high: float) -> None:
    found = ticks(0.0, high)
    assert 4 <= len(found) - 1 <= 10
    assert found[-1] <= high * (1 + 1e-9)
