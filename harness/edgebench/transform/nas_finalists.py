"""The end of a search: finalists judged directly and timed in turns, until one keeps the limit.

A table's prediction is no measurement. Where no finalist keeps a limit of latency as measured, the
search goes on below it, by as much as the nearest was over; at last the fastest subnet is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgebench.open_subnet import genome_row
from edgebench.subnet_record import LatencyTable, Tried
from edgebench.transform.nas import NasRequest, check_reachable
from edgebench.transform.nas_search import Problem
from edgebench.transform.nas_table import predicted_ns
from edgebench_workloads.wake.genome import Genome

if TYPE_CHECKING:
    from edgebench.transform.nas_accuracy import Evaluator
    from edgebench.transform.nas_measure import Choices, Weights

ATTEMPTS = 3
MARGIN = 0.98  # of a corrected limit
TIMED_IMAGES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """One subnet as it is filed, and what came of it."""

    genome: Genome
    weights: Weights
    path: str
    """The engine that won its race."""
    tried: Tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges genomes: directly on the whole split, and timed."""

    evaluator: Evaluator
    choices: Choices
    table: LatencyTable
    tell: Callable[[], None]

    def __call__(self, genomes: Sequence[Genome], limit: int) -> list[Finalist]:
        """All of them, in order; limit is what their predictions were held to."""
        from edgebench.transform.nas_measure import measure_subnets

        cut = []
        for genome in genomes:
            weights = self.evaluator.cut(genome)
            cut.append((genome, weights, self.evaluator.exact(genome, weights)))
            self.tell()
        timed = measure_subnets(
            [
                (self.choices(g, w), self.evaluator.images(g.resolution)[:TIMED_IMAGES])
                for g, w, _ in cut
            ]
        )
        return [
            Finalist(
                genome=genome,
                weights=weights,
                path=measured.path,
                tried=Tried(
                    genome=genome_row(genome),
                    searched_limit=limit,
                    predicted_latency_ns=predicted_ns(self.table, genome),
                    measured_latency_ns=measured.latency_ns,
                    evaluated_top1=top1,
                ),
            )
            for (genome, weights, top1), measured in zip(cut, timed, strict=True)
        ]


def winner_within(
    request: NasRequest,
    problem: Problem,
    found: Callable[[Problem], Sequence[Genome]],
    judge: Judge,
) -> tuple[Finalist, list[Tried]]:
    """The best finalist that keeps the limit, and all that were tried.

    found searches a problem. Raises SpecError where not even the fastest subnet keeps the limit.
    """
    seen: list[Finalist] = []
    limit = request.limit
    for _ in range(ATTEMPTS):
        if limit < problem.cost(problem.cheapest):
            break
        finalists = judge(found(replace(problem, limit=limit)), limit)
        seen += finalists
        if held := best(request, problem, finalists):
            return held, [one.tried for one in seen]
        nearest = min(one.tried.measured_latency_ns for one in finalists)
        limit = round(MARGIN * limit * request.limit / nearest)
    (fastest,) = judge([problem.cheapest], request.limit)
    seen.append(fastest)
    check_reachable(request, fastest.tried.measured_latency_ns)
    return fastest, [one.tried for one in seen]


def best(request: NasRequest, problem: Problem, finalists: Sequence[Finalist]) -> Finalist | None:
    """The highest top-1 of those that keep the limit, of equals the cheaper; None without any."""
    kept = [
        one
        for one in finalists
        if request.constraint != "latency" or one.tried.measured_latency_ns <= request.limit
    ]
    return min(kept, key=lambda o: (-o.tried.evaluated_top1, problem.cost(o.genome)), default=None)
