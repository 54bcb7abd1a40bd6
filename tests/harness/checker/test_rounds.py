"""D-07 on offline rounds that end inside a pass over the scored set, as fast machines make them."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgebench.checker.schedule import check_rows
from edgebench.checker.subject import Subject
from edgebench.loadgen import issue_order

SCORED, ROUND, ROUNDS = 10, 4, 5
KERNELS = ("fp16", "int4")


def rows_of(order: list[int]) -> list[Any]:
    return [
        SimpleNamespace(kernel=kernel, mode="performance", query=at // ROUND, sample=sample)
        for kernel in KERNELS
        for at, sample in enumerate(order)
    ]


def found(rows: list[Any]) -> list[str]:
    bundle = SimpleNamespace(record=SimpleNamespace(scenario="offline"), samples=rows)
    subject = SimpleNamespace(workload=SimpleNamespace(scored_count=SCORED), bundle=bundle)
    return [one.rule_id for one in check_rows(cast(Subject, subject))]


def rounds_of(order: list[int]) -> list[list[int]]:
    return [order[at : at + ROUND] for at in range(0, len(order), ROUND)]


def order_with_a_sample_twice() -> list[int]:
    """The first seed's order of which the round across the set's end has a sample twice."""
    for seed in range(100):
        order = list(islice(issue_order(seed, SCORED, distinct=True), ROUND * ROUNDS))
        if len(set(rounds_of(order)[SCORED // ROUND])) < ROUND:
            return order
    raise AssertionError("no seed of 100 repeats a sample")


def test_a_round_across_the_end_of_the_set_may_have_a_sample_twice() -> None:
    assert found(rows_of(order_with_a_sample_twice())) == []


@pytest.mark.parametrize("at", [0, 1, 3, 4])
def test_no_other_round_may(at: int) -> None:
    order = order_with_a_sample_twice()
    order[at * ROUND] = order[at * ROUND + 1]
    assert found(rows_of(order)) == ["D-07"]


def test_nor_may_it_have_one_three_times() -> None:
    order = order_with_a_sample_twice()
    across = SCORED // ROUND * ROUND
    order[across : across + 3] = [7, 7, 7]
    assert found(rows_of(order)) == ["D-07"]
