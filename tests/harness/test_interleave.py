"""Interleaving: order, block sizes, atomic blocks, resume, and what a drift does to the ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import pytest

from edgebench.errors import RunFailed, SpecError
from edgebench.interleave import (
    Block,
    Hooks,
    Plan,
    abba_order,
    endless_blocks,
    finished_blocks,
    numbered_blocks,
    plan_rounds,
    run_interleaved,
    whole_passes,
)
from edgebench.loadgen import Minimum, QuerySample, issue_order
from edgebench.record import Kernel, SampleRow
from edgebench.scenarios import derive_speedup, measured_ns

S = 1_000_000_000


class Machine:
    """A fake clock shared by both kernels of a machine that gets slower as time passes."""

    def __init__(self, slowdown_per_s: float = 0.0) -> None:
        self.now_ns = S
        self._slowdown_per_s = slowdown_per_s

    def __call__(self) -> int:
        return self.now_ns

    def work(self, cost_ns: int) -> None:
        self.now_ns += round(cost_ns * (1 + self._slowdown_per_s * (self.now_ns - S) / S))


class Sut:
    """Takes a fixed cost per sample and may fail at one of them."""

    def __init__(
        self, machine: Machine, name: str, cost_ns: int, error: BaseException | None = None
    ) -> None:
        self.name = name
        self.error = error
        self.fails_at: int | None = None
        self._machine = machine
        self._cost_ns = cost_ns

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        for sample in samples:
            if sample.index == self.fails_at and self.error:
                raise self.error
            self._machine.work(self._cost_ns)
            first_token(sample.id)
            complete(sample.id, [sample.index, 0])


def pair(machine: Machine, fp16_ns: int = 2 * S, int4_ns: int = S) -> dict[Kernel, Sut]:
    return {"fp16": Sut(machine, "fp16", fp16_ns), "int4": Sut(machine, "int4", int4_ns)}


def blocks_of(sizes: Sequence[int]) -> list[Block]:
    edges = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    spans = [range(edges[number], edges[number + 1]) for number in range(len(sizes))]
    return numbered_blocks(spans, schedule=range(100, 200))


# --- plans


def test_abba_order_alternates_who_goes_first() -> None:
    assert abba_order(3) == (
        ("fp16", 0),
        ("int4", 0),
        ("int4", 1),
        ("fp16", 1),
        ("fp16", 2),
        ("int4", 2),
    )
    assert abba_order(2, ["int4"]) == (("int4", 0), ("int4", 1))


def test_rounds_are_consecutive_and_of_one_size() -> None:
    assert plan_rounds(3, 64) == [range(0, 64), range(64, 128), range(128, 192)]


def test_blocks_take_their_samples_from_the_schedule_and_start_it_over() -> None:
    first, second = numbered_blocks([range(0, 2), range(2, 5)], schedule=[9, 8, 7])
    assert (first.number, first.samples) == (0, (9, 8))
    assert (second.number, second.samples) == (1, (7, 9, 8))
    endless = list(islice(endless_blocks(2, [9, 8, 7]), 3))
    assert [block.samples for block in endless] == [(9, 8), (7, 9), (8, 7)]
    assert [block.number for block in endless] == [0, 1, 2]


# --- running


def test_single_stream_rows_pair_by_query_and_sample() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(scenario="single-stream", blocks=blocks_of([2, 1]))
    done = list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    assert [(row.kernel, row.block, row.query, row.sample) for row in rows] == [
        ("fp16", 0, 0, 100),
        ("fp16", 0, 1, 101),
        ("int4", 0, 0, 100),
        ("int4", 0, 1, 101),
        ("int4", 1, 2, 102),
        ("fp16", 1, 2, 102),
    ]
    assert {row.mode for row in rows} == {"performance"}
    assert [row.completed_ns - row.issued_ns for row in rows[:3]] == [2 * S, 2 * S, S]
    assert [(event.kernel, event.block, event.samples, event.measured_ns) for event in done] == [
        ("fp16", 0, 2, 4 * S),
        ("int4", 0, 2, 2 * S),
        ("int4", 1, 1, S),
        ("fp16", 1, 1, 2 * S),
    ]
    assert not any(event.resumed for event in done)


def test_an_offline_round_is_one_query() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(scenario="offline", blocks=blocks_of([3, 3]))
    list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    assert len(rows) == 12
    assert {(row.block, row.query) for row in rows} == {(0, 0), (1, 1)}
    assert len({row.issued_ns for row in rows}) == 4
    assert [row.sample for row in rows[-3:]] == [103, 104, 105]


def test_accuracy_rows_say_so() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(scenario="offline", mode="accuracy", blocks=blocks_of([2]))
    list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    assert {row.mode for row in rows} == {"accuracy"}


def test_hooks_run_around_each_block_outside_its_time() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    calls: list[tuple[str, Kernel, int, int]] = []

    def before(kernel: Kernel, block: int) -> None:
        calls.append(("before", kernel, block, len(rows)))
        machine.now_ns += 50 * S

    def after(kernel: Kernel, block: int) -> None:
        calls.append(("after", kernel, block, len(rows)))
        machine.now_ns += 50 * S

    plan = Plan(scenario="single-stream", blocks=blocks_of([2]))
    hooks = Hooks(before=before, after=after)
    for _ in run_interleaved(plan, pair(machine), rows.append, hooks=hooks, clock=machine):
        machine.now_ns += 50 * S  # and so is what the caller does
    assert calls == [
        ("before", "fp16", 0, 0),
        ("after", "fp16", 0, 0),
        ("before", "int4", 0, 2),
        ("after", "int4", 0, 2),
    ]
    assert measured_ns([row for row in rows if row.kernel == "fp16"]) == 4 * S


def test_one_kernel_alone_and_none_at_all() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(scenario="single-stream", blocks=blocks_of([1, 1]))
    list(run_interleaved(plan, {"int4": pair(machine)["int4"]}, rows.append, clock=machine))
    assert [(row.kernel, row.block) for row in rows] == [("int4", 0), ("int4", 1)]
    with pytest.raises(SpecError, match="expected at least one kernel to run, got none"):
        list(run_interleaved(plan, {}, rows.append, clock=machine))


def test_minimum_ends_an_endless_plan_after_a_whole_abba() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(
        scenario="single-stream",
        blocks=endless_blocks(2, range(10)),
        minimum=Minimum(queries=4, duration_ns=9 * S),  # int4 needs 9 queries of 1 s: 5 blocks
    )
    done = list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    assert [event.block for event in done if event.kernel == "int4"] == [0, 1, 2, 3, 4, 5]
    assert [event.block for event in done if event.kernel == "fp16"] == [0, 1, 2, 3]
    assert [measured_ns([r for r in rows if r.kernel == k]) for k in ("fp16", "int4")] == [
        16 * S,
        12 * S,
    ]


def test_the_ratio_comes_from_the_queries_that_both_kernels_ran() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(
        scenario="single-stream",
        blocks=endless_blocks(2, range(10)),
        minimum=Minimum(queries=4, duration_ns=9 * S),
    )
    list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    speedup = derive_speedup("single-stream", rows)
    assert speedup is not None
    assert (speedup.ratio, speedup.pairs) == (2.0, 4)


@pytest.mark.parametrize(
    ("size", "population", "sizes"),
    [
        (3, 10, [3, 7]),  # three would fit, and two balance; the last takes what is left
        (2, 10, [2, 2, 2, 4]),
        (10, 10, [10]),
        (99, 10, [10]),
        (1, 4, [1, 1, 1, 1]),
    ],
)
def test_every_pass_ends_with_a_block(size: int, population: int, sizes: list[int]) -> None:
    order = issue_order(7, population, distinct=True)
    blocks = list(islice(whole_passes(size, population, order), 3 * len(sizes)))
    assert [len(block.samples) for block in blocks] == 3 * sizes
    assert [position for block in blocks for position in block.positions] == list(
        range(3 * population)
    )
    for turn in range(3):
        own = blocks[turn * len(sizes) : (turn + 1) * len(sizes)]
        assert sorted(s for block in own for s in block.samples) == list(range(population))


@pytest.mark.parametrize(("size", "population"), [(7, 64), (3, 10), (41, 1000), (20, 1000)])
def test_a_resumed_run_cuts_a_pass_as_it_was_begun(size: int, population: int) -> None:
    """The size comes back from the rows of block 0, and gives the same blocks."""

    def spans(size: int) -> list[range]:
        order = issue_order(7, population, distinct=True)
        return [block.positions for block in islice(whole_passes(size, population, order), 99)]

    assert spans(len(spans(size)[0])) == spans(size)


def test_each_kernel_ends_after_whole_passes() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(
        scenario="single-stream",
        blocks=whole_passes(3, 10, issue_order(7, 10, distinct=True)),
        minimum=Minimum(queries=12, duration_ns=35 * S, multiple=10),
    )
    list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    ran = [sum(row.kernel == kernel for row in rows) for kernel in ("fp16", "int4")]
    assert ran == [20, 40]  # 12 queries need two passes of 2 s each, 35 s four of 1 s each


def test_minimum_counts_too() -> None:
    machine = Machine()
    plan = Plan(
        scenario="offline",
        blocks=endless_blocks(2, range(10)),
        minimum=Minimum(queries=5, duration_ns=1),  # five rounds, and an ABBA has two
    )
    done = list(run_interleaved(plan, pair(machine), lambda row: None, clock=machine))
    assert len(done) == 2 * 6


def test_a_plan_that_runs_out_ends_short_of_its_minimum() -> None:
    machine = Machine()
    plan = Plan(scenario="single-stream", blocks=blocks_of([1, 1]), minimum=Minimum(queries=1000))
    assert len(list(run_interleaved(plan, pair(machine), lambda row: None, clock=machine))) == 4


# --- interruption


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("boom"), RunFailed), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_block_that_broke_off_leaves_no_row(
    error: BaseException, raised: type[BaseException]
) -> None:
    machine = Machine()
    suts = pair(machine)
    suts["int4"].error, suts["int4"].fails_at = error, 103  # the second query of int4's block 1
    rows: list[SampleRow] = []
    plan = Plan(scenario="single-stream", blocks=blocks_of([2, 2]))
    with pytest.raises(raised):
        list(run_interleaved(plan, suts, rows.append, clock=machine))
    assert [(row.kernel, row.block) for row in rows] == [("fp16", 0)] * 2 + [("int4", 0)] * 2


def test_resume_runs_only_what_is_missing() -> None:
    machine = Machine()
    blocks = blocks_of([2, 2])
    rows: list[SampleRow] = []
    plan = Plan(scenario="single-stream", blocks=blocks)
    whole = list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    kept = rows[:7]  # killed while the last block (fp16, 1) was being written
    done = finished_blocks(kept, blocks)
    assert set(done) == {("fp16", 0), ("int4", 0), ("int4", 1)}
    more: list[SampleRow] = []
    resumed = list(
        run_interleaved(plan, pair(machine), more.append, already_done=done, clock=machine)
    )
    assert [(row.kernel, row.query) for row in more] == [("fp16", 2), ("fp16", 3)]
    assert [event.resumed for event in resumed] == [True, True, True, False]
    assert [event.samples for event in resumed] == [event.samples for event in whole]


def test_resume_counts_what_was_measured_before_towards_the_minimum() -> None:
    machine = Machine()
    minimum = Minimum(queries=4, duration_ns=4 * S)
    rows: list[SampleRow] = []
    plan = Plan(scenario="single-stream", blocks=endless_blocks(2, range(9)), minimum=minimum)
    list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    done = finished_blocks(rows, endless_blocks(2, range(9)))
    again = Plan(scenario="single-stream", blocks=endless_blocks(2, range(9)), minimum=minimum)
    events = list(
        run_interleaved(again, pair(machine), rows.append, already_done=done, clock=machine)
    )
    assert [event.resumed for event in events] == [True] * 4


def test_blocks_of_another_plan_or_mode_are_not_finished() -> None:
    machine = Machine()
    rows: list[SampleRow] = []
    plan = Plan(scenario="single-stream", blocks=blocks_of([2, 2]))
    list(run_interleaved(plan, pair(machine), rows.append, clock=machine))
    assert finished_blocks(rows, blocks_of([4])) == {}
    assert finished_blocks(rows, blocks_of([2, 2]), mode="accuracy") == {}
    assert finished_blocks([], endless_blocks(2, [1])) == {}


# --- why


def test_the_ratio_survives_a_machine_that_slows_down() -> None:
    # int4 is twice as fast, on a machine that gets three times slower while the two run.
    blocks = numbered_blocks([range(at, at + 2) for at in range(0, 40, 2)], schedule=range(40))
    kernels: list[tuple[Kernel, ...]] = [("fp16", "int4")]
    ratios = []
    for turns in (kernels, [("fp16",), ("int4",)]):  # alternating; one after the other
        machine = Machine(slowdown_per_s=0.01)
        rows: list[SampleRow] = []
        for turn in turns:
            suts = {kernel: pair(machine)[kernel] for kernel in turn}
            plan = Plan(scenario="single-stream", blocks=blocks)
            list(run_interleaved(plan, suts, rows.append, clock=machine))
        speedup = derive_speedup("single-stream", rows)
        assert speedup is not None
        assert speedup.ci95 is not None
        ratios.append((speedup.ratio, speedup.ci95[0] <= 2.0 <= speedup.ci95[1]))
    assert ratios[0] == (pytest.approx(2.0, rel=0.02), True)
    assert ratios[1] == (pytest.approx(1.1, rel=0.02), False)
