"""The evolutionary search: better subnets within a limit, from a seed. Needs no torch.

As Once-for-All searches (arXiv:1908.09791, appendix): a population of 100; the best quarter stays
and parents 50 mutants, each gene drawn anew with 10 %, and 50 crossings, each gene one parent's.
What breaks the limit is drawn again. Every generation draws from a stream of its own, so a search
that was interrupted and went on is the search that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgebench_workloads.draws import Draws
from edgebench_workloads.wake.genome import (
    DEPTHS,
    EXPANSIONS,
    KERNELS,
    MAX_DEPTH,
    RESOLUTIONS,
    STAGES,
    Genome,
    make_genome,
)

POPULATION = 100
PARENTS = 25
MUTANTS = 50
MUTATION_PERCENT = 10
TRIES = 100  # of a child, before it is brought within the limit gene by gene

Gene = Callable[[int, int], int]
"""(stage, place) -> kernel or expansion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The genes that a search may choose."""

    resolutions: Sequence[int] = RESOLUTIONS
    depths: Sequence[int] = DEPTHS
    kernels: Sequence[int] = KERNELS
    expansions: Sequence[int] = EXPANSIONS

    def draw(self, choose: Callable[[Sequence[int]], int]) -> Genome:
        """One genome, each gene chosen."""
        return make_genome(
            choose,
            resolutions=self.resolutions,
            depths=self.depths,
            kernels=self.kernels,
            expansions=self.expansions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is searched for: the highest score whose cost is within the limit."""

    space: Space
    score: Callable[[Sequence[Genome]], Sequence[float]]
    cost: Callable[[Genome], int]
    limit: int
    cheapest: Genome
    """Keeps the limit, else there is nothing to find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A population, and how many generations made it."""

    number: int
    population: tuple[Genome, ...]


def evolve(
    problem: Problem,
    *,
    seed: int,
    generations: int,
    begun: Generation | None = None,
    keep: Callable[[Generation], None] = lambda _: None,
) -> list[Genome]:
    """The last population, each genome once, the best first; `begun` goes on from there."""
    now = begun or _first(problem, seed)
    while now.number < generations:
        keep(now)
        now = _next(problem, seed, now)
    keep(now)
    return ranked(problem, now.population)


def ranked(problem: Problem, genomes: Sequence[Genome]) -> list[Genome]:
    """Each genome once, the highest score first; of equals the cheaper, then by their genes."""
    distinct = list(dict.fromkeys(genomes))
    scores = dict(zip(distinct, problem.score(distinct), strict=True))
    return sorted(distinct, key=lambda g: (-scores[g], problem.cost(g), str(g.as_json())))


def _first(problem: Problem, seed: int) -> Generation:
    draws = Draws(f"edgebench-nas/{seed}/first")
    population = tuple(
        within(problem, lambda: problem.space.draw(draws.choose), draws) for _ in range(POPULATION)
    )
    return Generation(number=0, population=population)


def _next(problem: Problem, seed: int, now: Generation) -> Generation:
    draws = Draws(f"edgebench-nas/{seed}/generation/{now.number}")
    parents = ranked(problem, now.population)[:PARENTS]
    mutants = [
        within(problem, lambda: mutated(problem.space, draws.choose(parents), draws), draws)
        for _ in range(MUTANTS)
    ]
    crossings = [
        within(problem, lambda: crossed(draws.choose(parents), draws.choose(parents), draws), draws)
        for _ in range(POPULATION - MUTANTS)
    ]
    return Generation(number=now.number + 1, population=(*parents, *mutants, *crossings))


def within(problem: Problem, make: Callable[[], Genome], draws: Draws) -> Genome:
    """A genome that keeps the limit: made again, and at last drawn towards the cheapest."""
    found = make()
    for _ in range(TRIES):
        if problem.cost(found) <= problem.limit:
            return found
        found = make()
    while problem.cost(found) > problem.limit:
        found = nearer(found, problem.cheapest, draws)
    return found


def mutated(space: Space, genome: Genome, draws: Draws) -> Genome:
    """Each gene with MUTATION_PERCENT another draw; a block that comes new is drawn."""

    def drawn(now: int, choices: Sequence[int]) -> int:
        return draws.choose(choices) if not now or draws.chance(MUTATION_PERCENT) else now

    return _built(
        drawn(genome.resolution, space.resolutions),
        [drawn(depth, space.depths) for depth in genome.depths],
        lambda stage, place: drawn(genome.kernels[stage][place], space.kernels),
        lambda stage, place: drawn(genome.expansions[stage][place], space.expansions),
    )


def crossed(one: Genome, other: Genome, draws: Draws) -> Genome:
    """Each gene of one parent or the other; of a block that only one has, that one's."""

    def either(a: int, b: int) -> int:
        return draws.choose([gene for gene in (a, b) if gene])

    return _built(
        either(one.resolution, other.resolution),
        [either(a, b) for a, b in zip(one.depths, other.depths, strict=True)],
        lambda stage, place: either(one.kernels[stage][place], other.kernels[stage][place]),
        lambda stage, place: either(one.expansions[stage][place], other.expansions[stage][place]),
    )


def nearer(genome: Genome, aim: Genome, draws: Draws) -> Genome:
    """One of the genes that differ becomes the aim's; they must not be equal."""
    now, wanted = _genes(genome), _genes(aim)
    differing = sorted(
        name for name in now if now[name] != (wanted.get(name) or now[name])
    )  # a block that the aim lacks goes with its stage's depth
    changed = draws.choose(differing)
    now[changed] = wanted[changed]

    def gene(kind: int) -> Gene:
        return lambda stage, place: now.get((kind, stage, place)) or wanted[(kind, stage, place)]

    depths = [now[(1, stage, 0)] for stage in range(STAGES)]
    return _built(now[(0, 0, 0)], depths, gene(2), gene(3))


def _genes(genome: Genome) -> dict[tuple[int, int, int], int]:
    """By (kind, stage, place): 0 the resolution, 1 depths, 2 kernels, 3 expansions."""
    found = {(0, 0, 0): genome.resolution}
    found |= {(1, stage, 0): depth for stage, depth in enumerate(genome.depths)}
    for stage, place, kernel, expansion in genome.blocks():
        found |= {(2, stage, place): kernel, (3, stage, place): expansion}
    return found


def _built(resolution: int, depths: Sequence[int], kernel: Gene, expansion: Gene) -> Genome:
    def rows(gene: Gene) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(gene(stage, place) if place < depth else 0 for place in range(MAX_DEPTH))
            for stage, depth in enumerate(depths)
        )

    return Genome(
        resolution=resolution,
        depths=tuple(depths),
        kernels=rows(kernel),
        expansions=rows(expansion),
    )
