"""Unseen inputs: fresh questions of the same grammar are answered as well and as fast.

A system that recognises the benchmark does better on the scored set than beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.audit.auditee import NotSupported
from edgebench.audit.case import Case
from edgebench.audit.intervals import difference
from edgebench.audit.judgement import Measure, within
from edgebench.audit.library import Library
from edgebench.audit.pairs import by_phase, matched_ratio
from edgebench.audit.runs import Query, Results, Run, alternated, blocks_of
from edgebench.audit.shares import accuracy_drop

TOLERANCE = 0.1  # ours: the questions are others, matched by the length of their prompts
BLOCKS = 24


class Unseen:
    """See AuditTest."""

    name = "unseen"
    catches = "scored questions that are treated apart"

    def plan_runs(self, case: Case) -> list[Run]:
        """Scored and fresh questions in turns."""
        if case.unseen is None:
            raise NotSupported("this workload has no generator of questions beside the scored set")
        size = max(case.counts.answers, case.counts.pairs * case.batch_size)
        libraries = {"scored": case.scored, "fresh": case.unseen}
        runs = {}
        for name, library in libraries.items():
            units = case.units(case.draw(f"unseen/{name}", size, population=len(library)))
            runs[name] = [
                Run(name=name, library=library, queries=block) for block in blocks_of(units, BLOCKS)
            ]
        warm = Run(name="warm-up", library=case.scored, queries=runs["scored"][0].queries[-1:])
        return [warm, *alternated(("scored", "fresh"), runs)]

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Compare accuracy, and the speed of questions of like length."""
        assert case.unseen is not None  # or nothing would have run
        scored, fresh = results.queries["scored"], results.queries["fresh"]
        scores = results.score("scored", case.scored), results.score("fresh", case.unseen)
        measures = [accuracy_drop("accuracy, scored - fresh questions", difference(*scores))]
        if case.scored.is_streamed and case.batch_size > 1:
            return measures  # a batch is as slow as its longest rows, which differ
        seed = case.derived_seed("unseen/bootstrap")
        sides = _with_lengths(fresh, case.unseen), _with_lengths(scored, case.scored)
        for what, timed in by_phase(case.scored):
            found = matched_ratio(*sides, timed, seed)
            measures.append(within(f"{what}, fresh / scored questions", found, TOLERANCE))
        return measures


def _with_lengths(queries: Sequence[Query], library: Library) -> list[tuple[int, Query]]:
    lengths = library.lengths
    return [(lengths[query.timings[0].sample], query) for query in queries]
