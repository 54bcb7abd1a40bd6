"""Ranking: only what is comparable shares a ranking, and only what counts has a rank."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from edgebench_reports.entries import Entry, rank_entries, verdict


def ranks(entries: list[Entry]) -> dict[str, int | None]:
    """The rank of the INT4 entry of each run."""
    return {e.record.run_id: e.rank for e in entries if e.result.kernel == "int4"}


def test_the_faster_is_first_in_both_scenarios(factory: ModuleType) -> None:
    for scenario in ("single-stream", "offline"):
        runs = [
            factory.submission(factory.record_data(scenario=scenario, speed=speed), run_id=name)
            for name, speed in (("slow", 1.0), ("fast", 3.0), ("middle", 2.0))
        ]
        entries = rank_entries(runs)
        assert ranks(entries) == {"fast": 1, "middle": 2, "slow": 3}
        ranked = [entry.record.run_id for entry in entries if entry.rank]
        assert ranked == ["fast", "middle", "slow"]


@pytest.mark.parametrize(
    "change",
    [
        {"track": "open"},
        {"profile": "official"},
        {"scenario": "offline"},
        {"workload": "assistant@300m"},
        {"device": "orin"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_differs_is_not_ranked_together(factory: ModuleType, change: dict[str, str]) -> None:
    data = factory.record_data()
    other = dict(data)
    if name := change.get("workload"):
        other["workload"] = {**data["workload"], "name": name}
    elif device := change.get("device"):
        other["host"] = {**data["host"], "device": device}
    else:
        other |= change
    runs = [
        factory.submission(data, run_id="one"),
        factory.submission(other, run_id="other"),
    ]
    assert ranks(rank_entries(runs)) == {"one": 1, "other": 1}


def test_the_reference_is_never_ranked(factory: ModuleType) -> None:
    entries = rank_entries(factory.gallery())
    assert {e.rank for e in entries if e.result.kernel == "fp16"} == {None}
    assert {verdict(e) for e in entries if e.result.kernel == "fp16"} == {"reference"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"valid": False, "invalid_reasons": ["D-02: 4 queries of 6"]}, "INVALID"),
        ({"accuracy_passed": False}, "accuracy missed"),
        ({"accuracy_passed": None}, "accuracy missed"),
        ({"accuracy": None, "accuracy_passed": None}, "no accuracy"),
    ],
)
def test_what_does_not_count_is_not_ranked(
    factory: ModuleType, change: dict[str, Any], said: str
) -> None:
    slow = factory.submission(factory.record_data(speed=0.5), run_id="slow")
    fast = factory.edited(factory.record_data(), "int4", **change)
    entries = rank_entries([factory.submission(fast, run_id="fast"), slow])
    assert ranks(entries) == {"slow": 1, "fast": None}
    fast_int4 = [e for e in entries if (e.record.run_id, e.result.kernel) == ("fast", "int4")]
    assert [verdict(entry) for entry in fast_int4] == [said]


def test_the_open_track_has_no_gate(factory: ModuleType) -> None:
    data = factory.edited(factory.record_data(track="open"), "int4", accuracy_passed=None)
    entries = rank_entries([factory.submission(data)])
    assert [entry.rank for entry in entries if entry.result.kernel == "int4"] == [1]


def test_without_a_speed_there_is_no_rank(factory: ModuleType) -> None:
    data = factory.edited(factory.record_data(), "int4", latency_p90_ms=None)
    entries = rank_entries([factory.submission(data)])
    assert [entry.rank for entry in entries] == [None, None]


def test_anchors_are_stable_and_distinct(factory: ModuleType) -> None:
    runs = factory.gallery()
    anchors = [run.anchor for run in runs]
    assert len(set(anchors)) == len(runs)
    assert anchors == [run.anchor for run in factory.gallery()]
