"""A perturbed model: the same engine with noise for weights is as fast, and answers otherwise.

MLPerf's audit guidelines suggest it to auditors by hand. Answers that stay did not come from the
model; a speed that does not stay was not the model's.
"""

from __future__ import annotations

from edgebench.audit.case import Case
from edgebench.audit.intervals import difference
from edgebench.audit.judgement import Measure, within
from edgebench.audit.pairs import first_token, per_token, ratio
from edgebench.audit.runs import Results, Run, alternated, blocks_of

TOLERANCE = 0.1  # ours: the work is the same; answers that are longer see a little more cache
STAYING = 0.05  # ours: measured on honest engines, none of the answers stayed
BLOCKS = 24


class Perturbed:
    """See AuditTest."""

    name = "perturbed"
    catches = "answers from a table, a benchmark that is recognised, work that is skipped"

    def plan_runs(self, case: Case) -> list[Run]:
        """The same queries to the submitted and to the perturbed model, in turns."""
        units = case.units(case.draw(self.name, case.counts.pairs * case.batch_size))
        runs = {
            name: [
                Run(name=name, library=case.scored, queries=block, part=name)
                for block in blocks_of(units, BLOCKS)
            ]
            for name in ("submitted", "perturbed")
        }
        warm = [
            Run(name="warm-up", library=case.scored, queries=(units[-1],), part=name)
            for name in ("submitted", "perturbed")
        ]
        return [*warm, *alternated(("submitted", "perturbed"), runs)]

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Times must stay, answers must not, accuracy must fall."""
        own, changed = results.queries["submitted"], results.queries["perturbed"]
        seed = case.derived_seed("perturbed/bootstrap")
        measures = [
            within(
                "first token, perturbed / submitted",
                ratio(changed, own, first_token, seed),
                TOLERANCE,
            )
        ]
        if case.batch_size == 1:  # rows of a batch end at other steps, so its steps cost otherwise
            measures.append(
                within(
                    "time per token, perturbed / submitted",
                    ratio(changed, own, per_token, seed),
                    TOLERANCE,
                )
            )
        return [*measures, self._staying(results), self._accuracy(case, results)]

    def _staying(self, results: Results) -> Measure:
        own, changed = results.outputs("submitted"), results.outputs("perturbed")
        staying = [sample for sample, ids in own.items() if changed.get(sample) == ids]
        return Measure(
            what="answers that stay when the model is perturbed",
            verdict="caught" if len(staying) > max(1, STAYING * len(own)) else "passed",
            value=len(staying) / len(own),
            limit=f"<= {STAYING:g}",
            note=f"{len(staying)} of {len(own)}",
        )

    def _accuracy(self, case: Case, results: Results) -> Measure:
        scores = [results.score(name, case.scored) for name in ("submitted", "perturbed")]
        fall = difference(scores[0], scores[1])
        return Measure(
            what="accuracy, submitted - perturbed",
            verdict="passed" if fall.low > 0 else "caught",
            value=fall.value,
            interval=(fall.low, fall.high),
            limit="interval above 0",
        )
