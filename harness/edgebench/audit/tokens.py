"""Tokens: what is counted as output was generated, whole, and streamed as it came.

As MLPerf's TEST06: the first token reported is the answer's, at most one end-of-sequence, counts
that agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgebench.audit.auditee import NotSupported
from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure, absent, counted
from edgebench.audit.library import TextLibrary
from edgebench.audit.runs import Results, Run
from edgebench.loadgen import SampleTiming
from edgebench.profiles import OUTPUT_MISMATCH_LIMIT

SAMPLES = 100  # MLPerf TEST06
ONE_CLASS = "an answer is one class, which no token counts"


class Tokens:
    """See AuditTest."""

    name = "tokens"
    catches = "tokens that are counted and not generated, answers held back from the stream"

    def plan_runs(self, case: Case) -> list[Run]:
        """Answer a hundred questions, then ask for their first tokens alone."""
        if not isinstance(case.scored, TextLibrary):
            raise NotSupported(ONE_CLASS)
        whole = -(-SAMPLES // case.batch_size) * case.batch_size
        drawn = case.draw(self.name, min(whole, max(case.counts.answers, case.batch_size)))
        units = case.units(drawn)
        first = tuple(sample for unit in units for sample in unit)
        return [
            Run(name="answers", library=case.scored, queries=tuple(units)),
            Run(name="first", library=case.scored, queries=(first,), wants="first-tokens"),
        ]

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Count faults of each kind."""
        timings = list(results.timings("answers"))
        assert isinstance(case.scored, TextLibrary), "or nothing would have run"
        eos, longest = case.scored.eos_id, case.scored.max_new_tokens

        def is_whole(ids: Sequence[int]) -> bool:
            return ids[-1] == eos or len(ids) == longest

        return [
            self._first(timings, results),
            _count("tokens after end-of-sequence", timings, lambda t: eos in t.output_ids[:-1]),
            _count(
                "answers that end early or run over",
                timings,
                lambda t: not is_whole(t.output_ids) or len(t.output_ids) > longest,
            ),
            _count(
                "answers whose first token came with the last",
                [t for t in timings if len(t.output_ids) > 1],
                lambda t: t.first_token_ns >= t.completed_ns,
            ),
            self._reported(results),
        ]

    def _first(self, timings: Sequence[SampleTiming], results: Results) -> Measure:
        what = "first tokens unlike the answers'"
        if "first" in results.missing:
            return absent(what, results.missing["first"])
        found = results.first_tokens["first"]
        allowed = max(1, int(OUTPUT_MISMATCH_LIMIT * len(timings)))  # rounding, as in Q-05
        return _count(what, timings, lambda t: found[t.sample] != t.output_ids[0], allowed)

    def _reported(self, results: Results) -> Measure:
        what = "reported counts unlike the tokens"
        queries = results.queries["answers"]
        if not any(query.reported for query in queries):
            return absent(what, "the system reports no count beside the tokens themselves")
        unlike = [
            query.timings[place].sample
            for query in queries
            for place, count in query.reported.items()
            if count != len(query.timings[place].output_ids)
        ]
        total = sum(len(query.reported) for query in queries)
        return counted(what, len(unlike), total, 0, f"such as sample {min(unlike, default=0)}")


def _count(
    what: str,
    timings: Sequence[SampleTiming],
    is_fault: Callable[[SampleTiming], bool],
    allowed: int = 0,
) -> Measure:
    faults = [timing.sample for timing in timings if is_fault(timing)]
    return counted(
        what, len(faults), len(timings), allowed, f"such as sample {min(faults, default=0)}"
    )
