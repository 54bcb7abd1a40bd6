"""Length: answers are as long as the fp16 reference's, so no speed is owed to saying less.

As MLPerf's TEST09.
"""

from __future__ import annotations

from edgebench.audit.auditee import NotSupported
from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure
from edgebench.audit.runs import Results, Run
from edgebench.profiles import LENGTH_CORRIDOR


class Length:
    """See AuditTest."""

    name = "length"
    catches = "answers cut short, or padded to raise tokens per second"

    def plan_runs(self, case: Case) -> list[Run]:
        """The same samples to the kernel and to the reference."""
        if case.reference is not None:
            raise NotSupported(case.reference)
        if not case.scored.is_streamed:
            raise NotSupported("an answer is one class, as long as any other")
        units = tuple(case.units(case.draw(self.name, max(case.counts.pairs, case.batch_size))))
        return [
            Run(name="own", library=case.scored, queries=units),
            Run(name="fp16", library=case.scored, queries=units, part="reference"),
        ]

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Compare mean output tokens."""
        own, reference = results.outputs("own"), results.outputs("fp16")
        tokens = [sum(map(len, side.values())) for side in (own, reference)]
        share = tokens[0] / tokens[1]
        low, high = LENGTH_CORRIDOR
        return [
            Measure(
                what="output tokens, own / fp16",
                verdict="passed" if low <= share <= high else "caught",
                value=share,
                limit=f"{low:g} .. {high:g}",
                note=f"{tokens[0]} against {tokens[1]} tokens of {len(own)} samples",
            )
        ]
