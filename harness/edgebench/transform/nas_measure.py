"""Measuring the latency table: every choice inside a network, in the engine that a run measures.

There are as many networks as resolution, kernel and expansion have choices together, each of all
blocks alike; they take turns of a few passes. A clock is read where each block begins, so that
caches are as a network leaves them and the parts of a pass add up to it. One image at a time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from edgebench.images.engine import ImageEngine, fastest
from edgebench.subnet_record import LatencyTable
from edgebench.transform.nas_table import key_of
from edgebench_workloads.wake.genome import (
    EXPANSIONS,
    KERNELS,
    RESOLUTIONS,
    Genome,
    Layer,
    make_genome,
)
from edgebench_workloads.wake.subnet import shapes

Weights = Mapping[str, Tensor]
Choices = Callable[[Genome, Weights], Sequence[ImageEngine]]
"""A subnet's engines, one for each arithmetic that it may run in."""
Clock = Callable[[], int]

ROUNDS = 10  # of all networks in the table, in turns
BURST = 4  # passes of a network in its turn; the median of all rounds' counts
WARM_UP = 2  # passes before a burst: a run repeats one network, whose weights stay in the cache
RACE_ROUNDS = 8
WINNER_PASSES = 200
FIRST, LAST = ".expand", "head"
"""Where a block begins, and where the last one has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One subnet's latency, and what ran it."""

    latency_ns: int
    path: str


def measure_table(
    choices: Choices,
    images: Callable[[int], Tensor],
    clock: Clock = time.perf_counter_ns,
    rounds: int | None = None,
) -> LatencyTable:
    """Measure every (block, resolution, choice); images gives f32 [B, 1, R, R] of a resolution."""
    rounds = ROUNDS if rounds is None else rounds
    paths, engines = {}, []
    for resolution in RESOLUTIONS:
        middle = _uniform(resolution, KERNELS[1], EXPANSIONS[1])
        racing = _random(choices, middle)
        path = fastest(racing, images(resolution)[:1], clock, RACE_ROUNDS).description
        paths[str(resolution)] = path
        place = [one.description for one in racing].index(path)
        uniform = [_uniform(resolution, k, e) for k in KERNELS for e in EXPANSIONS]
        engines += [_random(choices, genome)[place] for genome in uniform]
    parts = _parts(engines, images, clock, rounds)
    fixed: dict[int, list[float]] = {resolution: [] for resolution in RESOLUTIONS}
    blocks: dict[str, int] = {}
    for engine, own in zip(engines, parts, strict=True):
        resolution = engine.genome.resolution
        fixed[resolution].append(own[-1])
        for block, took in zip(engine.genome.blocks(), own[:-1], strict=True):
            blocks[key_of(resolution, *block)] = round(took)
    return LatencyTable(
        fixed_ns={str(name): round(statistics.median(own)) for name, own in fixed.items()},
        block_ns=blocks,
        executed_paths=paths,
        passes=rounds * BURST,
    )


def measure_subnet(
    engines: Sequence[ImageEngine], images: Tensor, clock: Clock = time.perf_counter_ns
) -> Measured:
    """The median latency of one image at a time, in the engine that wins the race for it."""
    engine = fastest(engines, images[:1], clock, RACE_ROUNDS)
    took = []
    for turn in range(WARM_UP + WINNER_PASSES):
        image = images[turn % len(images)][None]
        begin = clock()
        engine.classify(image)
        took.append(clock() - begin)
    return Measured(latency_ns=round(statistics.median(took[WARM_UP:])), path=engine.description)


def _uniform(resolution: int, kernel: int, expansion: int) -> Genome:
    return make_genome(max, resolutions=[resolution], kernels=[kernel], expansions=[expansion])


def _random(choices: Choices, genome: Genome) -> Sequence[ImageEngine]:
    """Engines of weights that keep activations in range: what they are takes no time."""
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=draw) / max(1, shape[1:].numel()) ** 0.5
        for name, shape in ((n, torch.Size(s)) for n, s in shapes(genome).items())
    }
    return choices(genome, weights)


def _parts(
    engines: Sequence[ImageEngine], images: Callable[[int], Tensor], clock: Clock, rounds: int
) -> list[list[float]]:
    """Of each engine the median ns of every block, in order, and last of all the rest."""
    marks: list[int] = []
    marked = [replace(one, multiply=_marking(one, marks, clock)) for one in engines]
    taken: list[list[list[int]]] = [[] for _ in engines]
    for turn in range(rounds):
        for place, engine in enumerate(marked):
            shown = images(engine.genome.resolution)
            for step in range(WARM_UP + BURST):
                image = shown[(turn * BURST + step) % len(shown)][None]
                marks.clear()
                begin = clock()
                engine.classify(image)
                whole = clock() - begin
                parts = [end - start for start, end in pairwise(marks)]
                if step >= WARM_UP:
                    taken[place].append([*parts, whole - sum(parts)])
    return [[statistics.median(part) for part in zip(*own, strict=True)] for own in taken]


def _marking(
    engine: ImageEngine, marks: list[int], clock: Clock
) -> Callable[[Layer, Tensor], Tensor]:
    inner = engine.multiply

    def multiply(layer: Layer, x: Tensor) -> Tensor:
        if layer.name.endswith(FIRST) or layer.name == LAST:
            marks.append(clock())
        return inner(layer, x)

    return multiply
