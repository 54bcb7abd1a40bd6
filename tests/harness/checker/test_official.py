"""The official profile from end to end on an injected clock: 600 s a kernel, in whole passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgebench.interleave import KERNELS, run_interleaved
from edgebench.job import ScenarioJob
from edgebench.loadgen import QuerySample
from edgebench.plans import performance_plan
from edgebench.profiles import OFFICIAL_DURATION_S, OFFICIAL_QUERIES, PROFILES
from edgebench.record import Kernel, Record, SampleRow, Scenario
from edgebench.scenarios import measured_ns
from edgebench.units import NS_PER_S
from tests.harness.checker.conftest import MS, SCORED, Maker, answer_ids
from tests.harness.checker.edits import add_accuracy

COST_NS: dict[Kernel, int] = {"fp16": 900 * MS, "int4": 250 * MS}


class Clock:
    """Time that passes only while somebody works."""

    now_ns = 5_000

    def __call__(self) -> int:
        return self.now_ns


class Sut:
    """Answers rightly, each sample after the same while."""

    def __init__(self, clock: Clock, kernel: Kernel) -> None:
        self.name = kernel
        self._clock, self._cost_ns = clock, COST_NS[kernel]

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        for sample in samples:
            self._clock.now_ns += self._cost_ns // 2
            first_token(sample.id)
            self._clock.now_ns += self._cost_ns // 2
            complete(sample.id, answer_ids(sample.index))


def measure(maker: Maker, scenario: Scenario) -> Maker:
    """Run the profile's own plan, as `bench run` does, and publish what came of it."""
    maker.record.update(profile="official", stamps=[])
    job = SimpleNamespace(
        prepared=SimpleNamespace(scored_count=SCORED),
        counts=PROFILES["official"].counts(maker.workload.name, scenario),
        min_block_s=PROFILES["official"].min_block_s,
        per_query_ns=COST_NS,
        selection=SimpleNamespace(primary=None),
    )
    record = Record.model_validate_json(json.dumps(maker.record))
    plan = performance_plan(cast(ScenarioJob, job), record, [])
    clock, rows = Clock(), list[SampleRow]()
    suts = {kernel: Sut(clock, kernel) for kernel in KERNELS}
    for _ in run_interleaved(plan, suts, rows.append, clock=clock):
        clock.now_ns += MS
    maker.samples = [row.model_dump() for row in rows]
    for repeat, row in enumerate(maker.ceilings):
        row["taken_ns"] = clock.now_ns * (repeat + 1) // len(maker.ceilings)
    add_accuracy(maker)
    maker.derive()
    return maker


def issued(maker: Maker, kernel: Kernel) -> list[dict[str, Any]]:
    return [r for r in maker.samples if (r["kernel"], r["mode"]) == (kernel, "performance")]


def broken(maker: Maker) -> set[str]:
    return {found.rule_id for found in maker.findings()}


def test_single_stream_runs_600_s_a_kernel_in_whole_passes(maker: Maker) -> None:
    measure(maker, "single-stream")
    counts = {kernel: len(issued(maker, kernel)) for kernel in KERNELS}
    # 1,024 queries are 16 passes of 64 and take fp16 922 s; 600 s are 38 passes of int4.
    assert counts == {"fp16": 16 * SCORED, "int4": 38 * SCORED}
    assert counts["fp16"] == OFFICIAL_QUERIES
    for kernel in KERNELS:
        rows = [SampleRow(**row) for row in issued(maker, kernel)]
        assert measured_ns(rows) >= OFFICIAL_DURATION_S * NS_PER_S
    assert maker.result("int4")["speedup"] == pytest.approx(3.6)
    assert broken(maker) == set()


def test_offline_runs_600_s_a_kernel_in_whole_rounds(offline: Maker) -> None:
    measure(offline, "offline")
    rounds = {kernel: len(issued(offline, kernel)) / SCORED for kernel in KERNELS}
    assert rounds == {"fp16": 12, "int4": 38}  # 57.6 s and 16 s a round, an even number of rounds
    assert broken(offline) == set()


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_fast_machine_fills_a_round_with_several_passes(
    offline: Maker, monkeypatch: pytest.MonkeyPatch, is_copied: bool
) -> None:
    for kernel in KERNELS:
        monkeypatch.setitem(COST_NS, kernel, {"fp16": 40 * MS, "int4": 20 * MS}[kernel])
    measure(offline, "offline")
    rounds = {row["block"] for row in issued(offline, "int4")}
    # 64 samples take int4 1.28 s: a block of 2 s needs two passes.
    assert len(issued(offline, "int4")) == len(rounds) * 2 * SCORED
    if is_copied:
        for kernel in KERNELS:
            first, *others = issued(offline, kernel)
            other = next(row for row in others if row["sample"] != first["sample"])
            other["sample"] = first["sample"]  # three times in a round of two passes
        offline.derive()
    found = broken(offline)
    assert found >= {"D-07"} if is_copied else found == set()


def test_a_kernel_that_ends_inside_a_pass_is_refused(maker: Maker) -> None:
    measure(maker, "single-stream")
    last = issued(maker, "int4")[-1]
    maker.samples.remove(last)
    maker.derive()
    assert broken(maker) == {"D-10", "S-07"}


def test_a_kernel_that_ends_early_is_refused(maker: Maker) -> None:
    """One pass fewer of the faster one: 592 s."""
    measure(maker, "single-stream")
    tail = {id(row) for row in issued(maker, "int4")[-SCORED:]}
    maker.samples = [row for row in maker.samples if id(row) not in tail]
    maker.derive()
    assert broken(maker) == {"D-01"}


def test_a_hole_among_the_pairs_is_refused(maker: Maker) -> None:
    measure(maker, "single-stream")
    maker.samples.remove(issued(maker, "fp16")[3])
    assert "D-06" in broken(maker)
