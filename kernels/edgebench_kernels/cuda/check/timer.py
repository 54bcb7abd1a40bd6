"""Timing on a GPU: things take turns, in a new random order each round."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

SHORTEST_SAMPLE_NS = 2_000_000
MOST_REPEATS = 256
LEAD_CYCLES = 400_000
"""The GPU waits so long before a sample, so that its launches are queued by then."""


@dataclass(slots=True, kw_only=True)
class Timed:
    """Something to run again and again; one run is `products` products.

    moved_bytes, operations: of one product.
    """

    run: Callable[[], object]
    products: int
    moved_bytes: int = 0
    operations: int = 0
    repeats: int = 0
    times_ns: list[float] = field(default_factory=list)
    """Of one product, by round."""


def sample_rounds(
    timed: Mapping[str, Timed],
    rounds: int,
    goes_on: Callable[[], bool],
    after_round: Callable[[int], None] = lambda done: None,
) -> int:
    """Warm all up, then time so many rounds, fewer if `goes_on` says no before; how many."""
    for one in timed.values():
        prepare(one)
    names = list(timed)
    order = random.Random(0)
    for done in range(rounds):
        if not goes_on():
            return done
        order.shuffle(names)
        samples = {name: sample_ns(timed[name], timed[name].repeats) for name in names}
        for name, sample in samples.items():
            timed[name].times_ns.append(sample)
        after_round(done + 1)
    return rounds


def prepare(one: Timed) -> None:
    """Warm it up, and find how often it must run to last long enough."""
    one.run()
    first = sample_ns(one, 2) * one.products
    one.repeats = max(1, min(MOST_REPEATS, round(SHORTEST_SAMPLE_NS / max(first, 1.0) + 0.5)))


def sample_ns(one: Timed, repeats: int) -> float:
    """Ns of one product: a run that is not timed, then so many that are."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    one.run()
    torch.cuda._sleep(LEAD_CYCLES)
    begin.record()
    for _ in range(repeats):
        one.run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e6 / repeats / one.products
