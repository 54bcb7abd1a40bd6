"""Claims: the speedup that the bundle names is reached here, where the system is the same.

Speedups rather than latencies: what else happens on a machine slows both kernels. One that is not
reached proves nothing, since the machine may be busy, so it leaves the audit unsure.
"""

from __future__ import annotations

from dataclasses import replace

from edgebench.audit.auditee import NotSupported
from edgebench.audit.case import Case
from edgebench.audit.intervals import Interval
from edgebench.audit.judgement import Measure, at_least
from edgebench.audit.pairs import latency, ratio
from edgebench.audit.runs import Results, Run, alternated, blocks_of

LIMIT = 0.9  # MLPerf TEST01 gives the audit's run 10 %
BLOCKS = 24


class Claims:
    """See AuditTest."""

    name = "claims"
    catches = "a speedup that cannot be had again"

    def plan_runs(self, case: Case) -> list[Run]:
        """The published beginning on the kernel and on the reference, in turns."""
        if case.claimed.speedup is None:
            raise NotSupported(case.claimed.untimed)
        units = case.units(case.published(case.counts.pairs))
        runs = {
            "own": [
                Run(name="own", library=case.scored, queries=block)
                for block in blocks_of(units, BLOCKS)
            ],
            "fp16": [
                Run(name="fp16", library=case.scored, queries=block, part="reference")
                for block in blocks_of(units, BLOCKS)
            ],
        }
        warm = [replace(blocks[0], name="warm-up") for blocks in runs.values()]
        return [*warm, *alternated(("own", "fp16"), runs)]

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Compare the speedup here with the claimed one, both with their intervals."""
        claimed = case.claimed.speedup
        assert claimed is not None  # or nothing would have run
        seed = case.derived_seed("claims/bootstrap")
        found = ratio(results.queries["fp16"], results.queries["own"], latency, seed)
        share = found and Interval(
            value=found.value / claimed.value,
            low=found.low / claimed.high,
            high=found.high / claimed.low,
        )
        measure = at_least("speedup, here / claimed", share, LIMIT)
        note = f"{found.value:.2f} here, {claimed.value:.2f} claimed" if found else measure.note
        if measure.verdict == "caught":
            return [replace(measure, verdict="unsure", note=f"{note}; repeat with nothing else")]
        return [replace(measure, note=note)]
