"""Exact match and the nearest-neighbour baseline."""

from __future__ import annotations

import pytest

from edgebench_workloads.assistant.baseline import NearestNeighbor
from edgebench_workloads.assistant.dataset import Pair, scored_pairs, training_pairs
from edgebench_workloads.assistant.quality import exact_match_percent, is_exact_match, parse_call

CALL = '{"fn":"set_fan","room":"attic","speed":5,"minutes":20}'


@pytest.mark.parametrize(
    "output",
    [CALL, '{"minutes": 20, "speed": 5, "room": "attic", "fn": "set_fan"}', f" {CALL}\n"],
)
def test_equal_calls_match(output: str) -> None:
    assert is_exact_match(output, CALL)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "set_fan",
        CALL[:-1],
        CALL + "}",
        CALL + CALL,
        f"[{CALL}]",
        CALL.replace("5", '"5"'),
        CALL.replace("5", "5.0"),
        CALL.replace("5", "true"),
        CALL.replace("5", "NaN"),
        CALL.replace("5", "-Infinity"),
        CALL.replace("attic", "Attic"),
        CALL.replace('"minutes":20', '"minutes":20,"minutes":20'),
        CALL.replace(',"minutes":20', ""),
        CALL.replace("20}", '20,"unit":"C"}'),
        "[" * 100_000,
    ],
)
def test_anything_else_is_wrong(output: str) -> None:
    assert not is_exact_match(output, CALL)


def test_true_is_not_one() -> None:
    assert not is_exact_match('{"on":1}', '{"on":true}')
    assert is_exact_match('{"on":true}', '{"on":true}')


def test_nested_values_are_compared_with_types() -> None:
    assert is_exact_match('{"a":{"c":[1,"x"],"b":2}}', '{"a":{"b":2,"c":[1,"x"]}}')
    assert not is_exact_match('{"a":[1,2]}', '{"a":[2,1]}')
    assert not is_exact_match('{"a":[1.0]}', '{"a":[1]}')


def test_every_scored_call_matches_itself_only() -> None:
    calls = [p.call for p in scored_pairs()]
    assert exact_match_percent(calls, calls) == 100.0
    assert exact_match_percent(calls[1:] + calls[:1], calls) == 0.0


def test_a_broken_expectation_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected_call must be one JSON object"):
        is_exact_match(CALL, "[1]")


def test_percent_needs_equal_counts() -> None:
    with pytest.raises(ValueError, match="as many outputs as calls"):
        exact_match_percent([CALL], [])


def test_percent_counts() -> None:
    assert exact_match_percent([CALL, "no", CALL, CALL], [CALL] * 4) == 75.0
    assert parse_call("no") is None


def test_the_neighbor_of_a_training_command_is_itself() -> None:
    training = training_pairs(300)
    neighbor = NearestNeighbor(training)
    answers = [neighbor.answer(p.command) for p in training]
    assert exact_match_percent(answers, [p.call for p in training]) > 99.0


def test_the_neighbor_shares_the_rare_words() -> None:
    training = [
        Pair(command="turn on the kitchen light", call='{"room":"kitchen"}'),
        Pair(command="turn on the attic light", call='{"room":"attic"}'),
    ]
    neighbor = NearestNeighbor(training)
    assert neighbor.answer("please make it bright in the attic") == '{"room":"attic"}'
    assert neighbor.answer("unknown") == '{"room":"kitchen"}'


def test_the_baseline_cannot_know_the_scored_calls() -> None:
    neighbor = NearestNeighbor(training_pairs(3000))
    scored = scored_pairs()[:100]
    answers = [neighbor.answer(p.command) for p in scored]
    assert exact_match_percent(answers, [p.call for p in scored]) == 0.0
