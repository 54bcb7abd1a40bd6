"""Measuring the latency table: every choice inside a network, in the engine that a run measures.

There are as many networks as resolution, kernel and expansion have choices together, each of all
blocks alike, and beside them networks drawn from the whole space; all take turns of a few passes.
In the first a clock is read where each block begins, so that caches are as a network leaves them
and the parts of a pass add up to it. The others are timed whole: the table is scaled to most of
them, and the rest say how well it predicts (`nas_fit`). One image at a time.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from edgebench.images.engine import ImageEngine, fastest
from edgebench.subnet_record import LatencyTable
from edgebench.transform.nas_fit import Timed, fitted, judged
from edgebench.transform.nas_table import key_of
from edgebench_workloads.draws import Draws
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

ROUNDS = 12  # of all networks in the table, in turns; the lower decile of all rounds' passes counts
BURST = 4  # passes of a network in its turn
WARM_UP = 2  # passes before a burst: a run repeats one network, whose weights stay in the cache
RACE_ROUNDS = 20
WINNER_PASSES = 200
WINNER_BURST = 10  # passes in a turn: what disturbs the machine disturbs all finalists alike
FITTED, HELD_OUT = 30, 15  # drawn networks, as many of each resolution
THIRDS = 3  # every third is held out
RACES = 3  # of drawn networks, for a resolution's engine
FIRST, LAST = ".expand", "head"
"""Where a block begins, and where the last one has ended."""
_WITHOUT_COUNT = re.compile(r"(?<=, )\d+ (?=1x1 layers)")


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
    paths, uniform, drawn = {}, [], []
    for resolution in RESOLUTIONS:
        whole = _drawn(resolution, FITTED + HELD_OUT)
        place, path = _fastest_path(choices, whole, images(resolution), clock)
        paths[str(resolution)] = path
        alike = [_uniform(resolution, k, e) for k in KERNELS for e in EXPANSIONS]
        uniform += [_random(choices, genome)[place] for genome in alike]
        drawn += [_random(choices, genome)[place] for genome in whole]
    parts = _parts([*uniform, *drawn], images, clock, rounds, marked=len(uniform))
    fixed: dict[int, list[float]] = {resolution: [] for resolution in RESOLUTIONS}
    blocks: dict[str, int] = {}
    for engine, own in zip(uniform, parts, strict=False):
        resolution = engine.genome.resolution
        fixed[resolution].append(own[-1])
        for block, took in zip(engine.genome.blocks(), own[:-1], strict=True):
            blocks[key_of(resolution, *block)] = round(took)
    table = LatencyTable(
        fixed_ns={str(name): round(statistics.median(own)) for name, own in fixed.items()},
        block_ns=blocks,
        executed_paths=paths,
        passes=rounds * BURST,
        fitted=FITTED,
    )
    timed = [
        Timed(genome=engine.genome, latency_ns=own[-1])
        for engine, own in zip(drawn, parts[len(uniform) :], strict=True)
    ]
    unseen = {place for place in range(len(timed)) if place % THIRDS == THIRDS - 1}
    seen = [one for place, one in enumerate(timed) if place not in unseen]
    return judged(fitted(table, seen), [timed[place] for place in sorted(unseen)])


def measure_subnets(
    subnets: Sequence[tuple[Sequence[ImageEngine], Tensor]],
    clock: Clock = time.perf_counter_ns,
) -> list[Measured]:
    """The undisturbed latency of each, one image at a time, in the engine that wins its race.

    Each comes with its images, f32 [B, 1, R, R]; all take turns, every other one backwards.
    """
    engines = [fastest(own, images[:1], clock, RACE_ROUNDS) for own, images in subnets]
    took: list[list[int]] = [[] for _ in subnets]
    for turn in range(-(-WINNER_PASSES // WINNER_BURST)):
        order = range(len(subnets)) if turn % 2 == 0 else reversed(range(len(subnets)))
        for place in order:
            images = subnets[place][1]
            for step in range(WARM_UP + min(WINNER_BURST, WINNER_PASSES)):
                image = images[(turn * WINNER_BURST + step) % len(images)][None]
                begin = clock()
                engines[place].classify(image)
                if step >= WARM_UP:
                    took[place].append(clock() - begin)
    return [
        Measured(latency_ns=round(undisturbed(own)), path=engine.description)
        for engine, own in zip(engines, took, strict=True)
    ]


def _drawn(resolution: int, count: int) -> list[Genome]:
    """Networks of the whole space, this resolution's share of them."""
    draws = Draws(f"edgebench-nas/table/{resolution}")
    return [
        make_genome(draws.choose, resolutions=[resolution])
        for _ in range(-(-count // len(RESOLUTIONS)))
    ]


def _fastest_path(
    choices: Choices, genomes: Sequence[Genome], images: Tensor, clock: Clock
) -> tuple[int, str]:
    """The engine that wins most races of a few networks: one race alone goes by chance."""
    won: list[int] = []
    names: list[str] = []
    for genome in genomes[:RACES]:
        racing = _random(choices, genome)
        names = [one.description for one in racing]
        won.append(names.index(fastest(racing, images[:1], clock, RACE_ROUNDS).description))
    place = statistics.mode(won)
    return place, _WITHOUT_COUNT.sub("", names[place])


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
    engines: Sequence[ImageEngine],
    images: Callable[[int], Tensor],
    clock: Clock,
    rounds: int,
    marked: int,
) -> list[list[float]]:
    """Of the first `marked` engines every block's ns, in order; of all engines last the rest."""
    marks: list[int] = []
    timed = [
        replace(one, multiply=_marking(one, marks, clock)) if place < marked else one
        for place, one in enumerate(engines)
    ]
    taken: list[list[list[int]]] = [[] for _ in engines]
    for turn in range(rounds):
        for place, engine in enumerate(timed):
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
    return [[undisturbed(part) for part in zip(*own, strict=True)] for own in taken]


def undisturbed(took: Sequence[int]) -> float:
    """The lower decile: what else the machine does only adds to a pass."""
    return float(sorted(took)[len(took) // 10])


def _marking(
    engine: ImageEngine, marks: list[int], clock: Clock
) -> Callable[[Layer, Tensor], Tensor]:
    inner = engine.multiply

    def multiply(layer: Layer, x: Tensor) -> Tensor:
        if layer.name.endswith(FIRST) or layer.name == LAST:
            marks.append(clock())
        return inner(layer, x)

    return multiply
