"""Interleaving: alternates the kernels in blocks, so that their ratio survives a drifting machine.

Blocks alternate A B B A A B B A ...: a drift that is linear in time falls on both kernels alike.
Block j holds the same queries for every kernel, so query numbers pair them. A block is atomic: its
rows reach the sink only when all of it ran, so an interrupted run resumes at the next block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice

from edgebench.errors import SpecError
from edgebench.loadgen import (
    Clock,
    Minimum,
    SampleTiming,
    SystemUnderTest,
    run_offline,
    run_single_stream,
)
from edgebench.profiles import EXTERNAL
from edgebench.record import Kernel, Mode, SampleRow, Scenario
from edgebench.scenarios import span_ns

KERNELS: tuple[Kernel, ...] = ("fp16", "int4")

BlockKey = tuple[Kernel, int]
BlockHook = Callable[[Kernel, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What every kernel runs in its block of this number: the samples of consecutive positions."""

    number: int
    positions: range
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A scenario, cut into blocks. `blocks` may be endless if `minimum` says when to stop."""

    scenario: Scenario
    mode: Mode = "performance"
    blocks: Iterable[Block]
    minimum: Minimum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What happens around each block, outside its timed region: ceilings, meters' marks.

    `after` is not called for a block that failed or was interrupted.
    """

    before: BlockHook | None = None
    after: BlockHook | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDone:
    """Progress: a block whose rows the sink has taken, or that an earlier run had finished."""

    kernel: Kernel
    block: int
    samples: int
    measured_ns: int
    resumed: bool


NO_HOOKS = Hooks()


@dataclass(slots=True)
class _Tally:
    queries: int = 0
    measured_ns: int = 0


def abba_order(pairs: int, kernels: Sequence[Kernel] = KERNELS) -> tuple[BlockKey, ...]:
    """Return (kernel, block) in the order to run them: A0 B0, B1 A1, A2 B2, ..."""
    return tuple(key for pair in range(pairs) for key in _turn(pair, kernels))


def round_samples(least: int, per_sample_ns_fast: float, min_block_ns: float) -> int:
    """How many samples an offline round holds: whole multiples of `least` that last long enough."""
    return least * max(1, math.ceil(min_block_ns / (least * per_sample_ns_fast)))


def plan_rounds(rounds: int, samples_per_round: int) -> list[range]:
    """Cut an offline measurement into rounds; each is one query of `samples_per_round` samples."""
    return [
        range(number * samples_per_round, (number + 1) * samples_per_round)
        for number in range(rounds)
    ]


def numbered_blocks(positions: Iterable[range], schedule: Sequence[int]) -> list[Block]:
    """Give each block its number and its samples; the schedule starts over where it ends."""
    return [
        Block(number=number, positions=span, samples=_samples(span, schedule))
        for number, span in enumerate(positions)
    ]


def endless_blocks(size: int, schedule: Iterable[int]) -> Iterator[Block]:
    """Yield blocks of one size for ever: for profiles that end by measured time.

    The schedule is loadgen.issue_order, itself without end; a finite one starts over.
    """
    samples = cycle(schedule)
    for number in count():
        span = range(number * size, (number + 1) * size)
        yield Block(number=number, positions=span, samples=tuple(islice(samples, size)))


def whole_passes(size: int, population: int, schedule: Iterator[int]) -> Iterator[Block]:
    """Yield blocks of about one size for ever, cut so that every pass over the set ends one.

    A pass has an even number of blocks where two fit, so that an ABBA ends with it; the last takes
    what is left over. The schedule is loadgen.issue_order with distinct=True.
    """
    count_in_pass = max(1, population // size)
    count_in_pass -= count_in_pass % 2 if count_in_pass > 1 else 0
    for number in count():
        turn, place = divmod(number, count_in_pass)
        start = turn * population + place * size
        is_last = place == count_in_pass - 1
        span = range(start, (turn + 1) * population if is_last else start + size)
        yield Block(number=number, positions=span, samples=tuple(islice(schedule, len(span))))


def finished_blocks(
    rows: Iterable[SampleRow], blocks: Iterable[Block], mode: Mode = "performance"
) -> dict[BlockKey, list[SampleRow]]:
    """Return the blocks of an interrupted run whose every row was kept; partial ones are left out.

    Pass the result to run_interleaved, and keep no other rows of this mode.
    """
    held: dict[BlockKey, list[SampleRow]] = {}
    for row in rows:
        if row.mode == mode:
            held.setdefault((row.kernel, row.block), []).append(row)
    last = max((number for _, number in held), default=-1)
    finished: dict[BlockKey, list[SampleRow]] = {}
    for block in blocks:
        if block.number > last:
            break
        for kernel in (*KERNELS, EXTERNAL):
            kept = held.get((kernel, block.number), [])
            if tuple(row.sample for row in kept) == block.samples:
                finished[kernel, block.number] = kept
    return finished


def run_interleaved(
    plan: Plan,
    suts: Mapping[Kernel, SystemUnderTest],
    sink: Callable[[SampleRow], None],
    *,
    hooks: Hooks = NO_HOOKS,
    already_done: Mapping[BlockKey, Sequence[SampleRow]] | None = None,
    clock: Clock = time.monotonic_ns,
) -> Iterator[BlockDone]:
    """Run every block on every kernel, in ABBA order, and yield after each.

    Nothing runs between the caller's `next` calls, so what the caller does there is not timed.
    Blocks in `already_done` (see finished_blocks) are neither run nor handed to the sink again.
    With a minimum, each kernel ends after the first whole ABBA in which it has met it, so that a
    slow one need not run as many queries as a fast one; what both ran is paired. A plan that runs
    out of blocks before that ends too, and its rows show it.
    Raises RunFailed from the load generator; KeyboardInterrupt passes at once.
    """
    if not suts:
        raise SpecError("[interleave] expected at least one kernel to run, got none; name one")
    done = already_done or {}
    tallies: dict[Kernel, _Tally] = {kernel: _Tally() for kernel in suts}
    active = tuple(suts)
    for block in plan.blocks:
        for kernel, _ in _turn(block.number, active):
            rows = done.get((kernel, block.number))
            resumed = rows is not None
            if rows is None:
                rows = _run_block(plan, suts[kernel], (kernel, block), hooks, clock)
                for row in rows:
                    sink(row)
            yield _account(rows, tallies[kernel], resumed)
        if block.number % 2 and plan.minimum:
            active = tuple(name for name in active if not _is_met(plan.minimum, tallies[name]))
            if not active:
                return


def _turn(pair: int, kernels: Sequence[Kernel]) -> list[BlockKey]:
    ordered = kernels if pair % 2 == 0 else tuple(reversed(kernels))
    return [(kernel, pair) for kernel in ordered]


def _samples(span: range, schedule: Sequence[int]) -> tuple[int, ...]:
    return tuple(schedule[position % len(schedule)] for position in span)


def _run_block(
    plan: Plan, sut: SystemUnderTest, what: tuple[Kernel, Block], hooks: Hooks, clock: Clock
) -> list[SampleRow]:
    kernel, block = what
    if hooks.before:
        hooks.before(kernel, block.number)
    if plan.scenario == "offline":
        timings = run_offline(sut, block.samples, clock)
    else:
        timings = list(run_single_stream(sut, block.samples, clock))
    if hooks.after:
        hooks.after(kernel, block.number)
    return [_row(plan, kernel, block, timing) for timing in timings]


def _row(plan: Plan, kernel: Kernel, block: Block, timing: SampleTiming) -> SampleRow:
    is_offline = plan.scenario == "offline"  # one query per round holds all its samples
    return SampleRow(
        kernel=kernel,
        mode=plan.mode,
        block=block.number,
        query=block.number if is_offline else block.positions[timing.position],
        sample=timing.sample,
        issued_ns=timing.issued_ns,
        first_token_ns=timing.first_token_ns,
        completed_ns=timing.completed_ns,
        output_ids=list(timing.output_ids),
    )


def _account(rows: Sequence[SampleRow], tally: _Tally, resumed: bool) -> BlockDone:
    span = span_ns(rows)
    tally.queries += len({row.query for row in rows})
    tally.measured_ns += span
    return BlockDone(
        kernel=rows[0].kernel,
        block=rows[0].block,
        samples=len(rows),
        measured_ns=span,
        resumed=resumed,
    )


def _is_met(minimum: Minimum, tally: _Tally) -> bool:
    return minimum.is_met(tally.queries, tally.measured_ns)
