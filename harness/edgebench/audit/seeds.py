"""Seeds: an order and a choice of samples that nobody could prepare for give the same result.

As MLPerf's TEST05, which it retired in v5.0; here the same queries are paired across the orders.
"""

from __future__ import annotations

from edgebench.audit.case import Case
from edgebench.audit.intervals import difference
from edgebench.audit.judgement import Measure, within
from edgebench.audit.pairs import latency, ratio
from edgebench.audit.runs import Results, Run, alternated, blocks_of
from edgebench.audit.shares import accuracy_drop, claimed_accuracy
from edgebench.loadgen import sample_schedule

TOLERANCE = 0.05  # MLPerf TEST05
BLOCKS = 24


class Seeds:
    """See AuditTest."""

    name = "seeds"
    catches = "speed or answers that hold only under the published schedule, or are only claimed"

    def plan_runs(self, case: Case) -> list[Run]:
        """The published beginning, the same queries in another order, and other samples."""
        size = case.counts.pairs * case.batch_size
        units = case.units(case.published(size))
        place = sample_schedule(
            case.derived_seed("seeds/order"), len(units), len(units), distinct=True
        )
        other = [units[i] if case.batch_size == 1 else units[i][::-1] for i in place]
        runs = {
            name: [
                Run(name=name, library=case.scored, queries=block)
                for block in blocks_of(queries, BLOCKS)
            ]
            for name, queries in (("published", units), ("another", other))
        }
        known = {sample for unit in units for sample in unit}
        fresh = [s for s in case.draw("seeds/others", len(case.scored)) if s not in known]
        others = case.units(tuple(fresh[: max(size, case.counts.answers)]))
        warm = Run(name="warm-up", library=case.scored, queries=(units[-1],))
        last = Run(name="others", library=case.scored, queries=tuple(others))
        return [warm, *alternated(("published", "another"), runs), last]

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Times pair by query; accuracy is compared between the published samples and others."""
        published, another = results.queries["published"], results.queries["another"]
        seed = case.derived_seed("seeds/bootstrap")
        measures = [
            within(
                "latency, another order / published",
                ratio(another, published, latency, seed),
                TOLERANCE,
            )
        ]
        scores = results.score("published", case.scored), results.score("others", case.scored)
        if all(trials for _, trials in scores):
            drop = difference(*scores)
            measures.append(accuracy_drop("accuracy, published - other samples", drop))
        # Samples that nobody could foresee, so that no forged part of the claim escapes.
        return [*measures, claimed_accuracy(case, results.outputs("others"))]
