"""Measuring the latency table: every choice inside a network, in the engine that a run measures.

There are as many networks as resolution, kernel and expansion have choices together, each of all
blocks alike; they take turns. A clock is read where each block begins, so that caches are as a
network leaves them and the parts of a pass add up to it. One image at a time.
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

PASSES = 40  # of each network in the table; the median counts
WARM_UP = 3  # that do not count
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
    passes: int = PASSES,
) -> LatencyTable:
    """Measure every (block, resolution, choice); images gives f32 [B, 1, R, R] of a resolution."""
    fixed, blocks, paths = {}, {}, {}
    for resolution in RESOLUTIONS:
        shown = images(resolution)
        middle = _uniform(resolution, KERNELS[1], EXPANSIONS[1])
        path = fastest(_random(choices, middle), shown[:1], clock, RACE_ROUNDS).description
        genomes = [_uniform(resolution, k, e) for k in KERNELS for e in EXPANSIONS]
        parts = _passes([_named(choices, genome, path) for genome in genomes], shown, clock, passes)
        paths[str(resolution)] = path
        fixed[str(resolution)] = round(statistics.median(each[-1] for each in parts))
        for genome, each in zip(genomes, parts, strict=True):
            for block, took in zip(genome.blocks(), each, strict=False):
                blocks[key_of(resolution, *block)] = round(took)
    return LatencyTable(fixed_ns=fixed, block_ns=blocks, executed_paths=paths, passes=passes)


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


def _named(choices: Choices, genome: Genome, path: str) -> ImageEngine:
    return next(one for one in _random(choices, genome) if one.description == path)


def _passes(
    engines: Sequence[ImageEngine], images: Tensor, clock: Clock, passes: int
) -> list[list[float]]:
    """Of each engine the median ns of every block, in order, and last of all the rest."""
    marks: list[int] = []
    marked = [replace(one, multiply=_marking(one, marks, clock)) for one in engines]
    taken: list[list[list[int]]] = [[] for _ in engines]
    for turn in range(WARM_UP + passes):
        image = images[turn % len(images)][None]
        for place, engine in enumerate(marked):
            marks.clear()
            begin = clock()
            engine.classify(image)
            whole = clock() - begin
            parts = [end - start for start, end in pairwise(marks)]
            if turn >= WARM_UP:
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
