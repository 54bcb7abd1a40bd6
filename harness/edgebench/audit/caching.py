"""Caching: a question asked again must cost what it cost the first time.

As MLPerf's TEST04 (inference/compliance), but each query is compared with itself, so that answers
of many lengths need no exemption; and it is asked again under another index too, so that a cache by
content shows as one by index does. A faster first token shows a cache of prompts.
"""

from __future__ import annotations

from dataclasses import replace

from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure, at_least
from edgebench.audit.pairs import ratio, whole_and_first
from edgebench.audit.runs import Query, Results, Run
from edgebench.loadgen import SampleTiming

LIMIT = 0.9  # MLPerf TEST04: not more than 10 % faster
REPEATS = 3


class Caching:
    """See AuditTest."""

    name = "caching"
    catches = "answers, prompts or states kept from one query to the next"

    def plan_runs(self, case: Case) -> list[Run]:
        """Between fillers: a query for the first time, again at once, and as a copy later on."""
        library, copies = case.scored.twice(), len(case.scored)
        pairs = min(case.counts.pairs, len(case.scored) // (2 * case.batch_size))
        drawn = case.units(case.draw(self.name, 2 * pairs * case.batch_size))
        runs = [Run(name="warm-up", library=library, queries=(drawn[-1],))]
        for once, filler in zip(drawn[0::2], drawn[1::2], strict=False):
            copy = tuple(sample + copies for sample in once)
            steps = (("cold", once, 1), ("again", once, REPEATS), ("filler", filler, 1),
                     ("copy", copy, 1))  # fmt: skip
            runs += [Run(name=n, library=library, queries=(unit,) * k) for n, unit, k in steps]
        return runs

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Compare every repeat with its first time."""
        seed, cold = case.derived_seed("caching/bootstrap"), results.queries["cold"]
        copies = [_original(query, len(case.scored)) for query in results.queries["copy"]]
        return [
            at_least(f"{what}, {how} / first time", ratio(queries, cold, timed, seed), LIMIT)
            for how, queries in (("repeat", results.queries["again"]), ("copy", copies))
            for what, timed in whole_and_first(case.scored)
        ]


def _original(query: Query, count: int) -> Query:
    def named(timing: SampleTiming) -> SampleTiming:
        return replace(timing, sample=timing.sample % count)

    return replace(query, timings=tuple(named(timing) for timing in query.timings))
