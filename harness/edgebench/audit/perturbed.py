"""A perturbed model: the same engine with noise for weights is as fast, and answers otherwise.

MLPerf's audit guidelines suggest it to auditors by hand. Answers that stay did not come from the
model; a speed that does not stay was not the model's.
"""

from __future__ import annotations

from edgebench.audit.case import Case
from edgebench.audit.intervals import difference
from edgebench.audit.judgement import Measure, within
from edgebench.audit.pairs import by_phase, ratio
from edgebench.audit.runs import Results, Run, alternated

TOLERANCE = 0.1  # ours: the work is the same; answers that are longer see a little more cache
STAYING = 0.05  # ours: measured on honest engines, none of the answers stayed
# Of classes half of what luck does not explain: measured, noise leaves what luck leaves.


class Perturbed:
    """See AuditTest."""

    name = "perturbed"
    catches = "answers from a table, a benchmark that is recognised, work that is skipped"

    def plan_runs(self, case: Case) -> list[Run]:
        """The same queries to the submitted and to the perturbed model, in turns, one by one.

        Noise answers at length, and what follows a long answer finds colder caches: measured, a
        first token was up to 13 % slower within a block of such queries. One by one, both models
        follow either of them equally often.
        """
        units = case.units(case.draw(self.name, case.counts.pairs * case.batch_size))
        runs = {
            name: [
                Run(name=name, library=case.scored, queries=(unit,), part=name) for unit in units
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
            within(f"{what}, perturbed / submitted", ratio(changed, own, timed, seed), TOLERANCE)
            for what, timed in by_phase(case.scored, is_alone=case.batch_size == 1)
        ]
        return [*measures, self._staying(case, results), self._accuracy(case, results)]

    def _staying(self, case: Case, results: Results) -> Measure:
        limit = (1 + case.scored.guessed) / 2 if case.scored.guessed else STAYING
        own, changed = results.outputs("submitted"), results.outputs("perturbed")
        staying = [sample for sample, ids in own.items() if changed.get(sample) == ids]
        return Measure(
            what="answers that stay when the model is perturbed",
            verdict="caught" if len(staying) > max(1, limit * len(own)) else "passed",
            value=len(staying) / len(own),
            limit=f"<= {limit:g}",
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
