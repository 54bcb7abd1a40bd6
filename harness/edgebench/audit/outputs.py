"""Outputs: the timed run must compute what the accuracy run computes.

As MLPerf's TEST01, but over whole token sequences and whole logits, where its verify_accuracy.py
compares the first element of each output.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgebench.audit.auditee import LogitsPair
from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure, absent, counted
from edgebench.audit.runs import Results, Run
from edgebench.loadgen import accuracy_schedule
from edgebench.profiles import OUTPUT_MISMATCH_LIMIT

# Ours: measured on honest engines, the worst sample was off by 0.02 (bf16 against fp16); with one of
# six layers skipped, the best by 0.3.
LOGITS_LIMIT = 0.1
Outputs = Mapping[int, tuple[int, ...]]


class OutputsTest:
    """See AuditTest."""

    name = "outputs"
    catches = "a cheaper model in timed runs, answers that the bundle's model does not give"

    def plan_runs(self, case: Case) -> list[Run]:
        """The published order, then every sample once in order, then logits."""
        scored, count = case.scored, min(case.counts.answers, len(case.scored))
        timed = case.published(count, population=count)
        queries = [(sample,) for sample in timed] if case.scenario == "single-stream" else [timed]
        in_order = accuracy_schedule(count)
        checked = [(sample,) for sample in in_order] if len(queries) > 1 else [in_order]
        full = case.draw("outputs/logits", case.counts.logits, population=count)
        return [
            Run(name="timed", library=scored, queries=tuple(queries)),
            Run(name="accuracy", library=scored, queries=tuple(checked)),
            Run(name="logits", library=scored, queries=(full,), wants="logits"),
        ]

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Compare outputs with outputs, logits with logits, and both with the bundle."""
        timed, accuracy = results.outputs("timed"), results.outputs("accuracy")
        measures = [_same("timed against accuracy outputs that differ", timed, accuracy)]
        if case.claimed.incomparable:
            measures.append(absent("timed against the bundle's", case.claimed.incomparable))
        else:
            measures.append(
                _same("timed against the bundle's that differ", timed, case.claimed.outputs)
            )
        if "logits" in results.missing:
            measures.append(absent("full logits", results.missing["logits"]))
            return measures
        pairs = results.logits["logits"]
        steps = {pair.sample: pair.output_ids for pair in pairs}
        measures.append(_same("answers with logits that differ from the timed", steps, timed))
        return [*measures, logits_measure(pairs)]


def _same(what: str, one: Outputs, other: Outputs) -> Measure:
    """Count samples answered unlike; rounding in another order may flip one in a hundred (Q-05)."""
    shared = [sample for sample in one if sample in other]
    if not shared:
        return absent(what, "no sample in common")
    unlike = [sample for sample in shared if one[sample] != other[sample]]
    allowed = max(1, int(OUTPUT_MISMATCH_LIMIT * len(shared)))
    return counted(what, len(unlike), len(shared), allowed, f"such as sample {min(unlike, default=0)}")


def logits_measure(pairs: list[LogitsPair] | tuple[LogitsPair, ...]) -> Measure:  # type: ignore[type-arg]
    """The worst sample's distance between its two logits, each position's mean taken off."""
    distances = {pair.sample: distance(pair) for pair in pairs}
    sample = max(distances, key=distances.__getitem__)
    return Measure(
        what="full logits by step against one pass, relative distance",
        verdict="passed" if distances[sample] <= LOGITS_LIMIT else "caught",
        value=distances[sample],
        limit=f"<= {LOGITS_LIMIT:g}",
        note=f"sample {sample} of {len(distances)}, every position and token id",
    )


def distance(pair: LogitsPair) -> float:
    """Root mean square of the difference over that of the logits; softmax ignores their mean."""
    one, other = (
        logits.astype(np.float64) - logits.mean(axis=1, keepdims=True, dtype=np.float64)
        for logits in (pair.by_step, pair.in_one_pass)
    )
    size = float(np.sqrt(np.mean(other**2)))
    off = float(np.sqrt(np.mean((one - other) ** 2)))
    return off / size if size and np.isfinite(off) else float("inf")
