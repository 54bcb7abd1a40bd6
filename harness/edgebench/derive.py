"""The derivation: every published number from the raw rows, once for the runner and the checker.

What rows cannot say (bytes, batch size, the arithmetic that ran) comes as KernelFacts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgebench import profiles as p
from edgebench import stats
from edgebench.record import (
    Ceiling,
    CeilingRow,
    Energy,
    EnergyMetrics,
    Kernel,
    KernelResult,
    Kind,
    ModelCost,
    NllRow,
    Profile,
    SampleRow,
    Scenario,
    TimedWeights,
    Track,
)
from edgebench.roofline import Arithmetic, Executed, Model, place, work_of
from edgebench.scenarios import ScenarioResult, derive, derive_speedup, mode_rows
from edgebench.sustained import sustained_rates
from edgebench.verdict import invalid_reasons, warnings

REFERENCE: Kernel = "fp16"

IsRight = Callable[[int, Sequence[int]], bool]
"""(sample, output ids) -> whether the output answers that scored sample; see answers.AnswerKey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """What all kernels of one bundle share."""

    track: Track
    workload: str
    scenario: Scenario
    profile: Profile
    scored_count: int
    prompt_tokens: Sequence[int]
    """Token count of every scored prompt, in order; 1 for an image."""
    model: Model
    candidate_model: Model | None = None
    """Of an open model that is not the reference's; None: the same."""
    last_level_cache_bytes: int | None
    kind: Kind = "text"

    def model_of(self, kernel: Kernel) -> Model:
        """What a kernel multiplies."""
        own = None if kernel == REFERENCE else self.candidate_model
        return own or self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFacts:
    """What the rows cannot say about one kernel."""

    kernel: Kernel
    executed_path: str
    transform: str
    batch_size: int
    weight_bytes: int | None
    """None for an external engine: nobody here knows."""
    peak_memory_bytes: int | None
    arithmetic: Arithmetic | None
    """Whose ceiling bounds it: int8 for w4a16 and w4a8 on CPUs, else bf16 or fp32."""
    energy: Energy
    energy_beside: tuple[Energy, ...] = ()
    energy_metrics: EnergyMetrics | None = None
    timed_weights: TimedWeights | None = None
    cost: ModelCost | None = None
    invalid_reasons: tuple[str, ...] = ()
    """What the rows do not show: throttling, a failed meter, an interrupted block."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The outputs on which one kernel's accuracy stands: each distinct sample once."""

    outputs: Mapping[int, tuple[int, ...]]
    right: int

    @property
    def accuracy(self) -> float | None:
        """The fraction of right answers; None without a sample."""
        return self.right / len(self.outputs) if self.outputs else None


def scored_outputs(rows: Iterable[SampleRow], kernel: Kernel) -> dict[int, tuple[int, ...]]:
    """Return one output per distinct sample: of the accuracy run, else of the performance run.

    Of several performance outputs of a sample the first counts.
    """
    own = list(rows)
    chosen = mode_rows(own, kernel, "accuracy") or mode_rows(own, kernel, "performance")
    outputs: dict[int, tuple[int, ...]] = {}
    for row in sorted(chosen, key=lambda row: (row.block, row.query, row.sample)):
        outputs.setdefault(row.sample, tuple(row.output_ids))
    return outputs


def score(rows: Iterable[SampleRow], kernel: Kernel, is_right: IsRight) -> Scored:
    """Judge the outputs that count for one kernel."""
    outputs = scored_outputs(rows, kernel)
    right = sum(is_right(sample, ids) for sample, ids in outputs.items())
    return Scored(outputs=outputs, right=right)


def block_windows(rows: Iterable[SampleRow], kernel: Kernel) -> list[tuple[int, int]]:
    """Return (first issue, last completion) of each of one kernel's performance blocks, in ns.

    A kernel's energy is what the meter saw inside them.
    """
    blocks: dict[int, list[SampleRow]] = {}
    for row in mode_rows(rows, kernel, "performance"):
        blocks.setdefault(row.block, []).append(row)
    return [
        (min(row.issued_ns for row in own), max(row.completed_ns for row in own))
        for _, own in sorted(blocks.items())
    ]


def call_nll(rows: Iterable[NllRow], kernel: Kernel) -> float | None:
    """Return nats per call token: the sum of the likelihoods over the sum of the tokens."""
    own = sorted((row for row in rows if row.kernel == kernel), key=lambda row: row.sample)
    tokens = sum(row.tokens for row in own)
    return sum(row.nll_nats for row in own) / tokens if tokens else None


def derive_ceilings(rows: Iterable[CeilingRow]) -> list[Ceiling]:
    """Return the median and the highest of each ceiling's repeats.

    The instruction is that of its first repeat.
    """
    repeats: dict[str, list[CeilingRow]] = {}
    for row in rows:
        repeats.setdefault(row.ceiling, []).append(row)
    return [
        Ceiling(
            ceiling=own[0].ceiling,
            instruction=own[0].instruction,
            median=statistics.median(row.value for row in own),
            repeats=len(own),
            highest=max(row.value for row in own),
        )
        for _, own in sorted(repeats.items())
    ]


def length_ratio(candidate: Scored, reference: Scored) -> float | None:
    """Return candidate over reference output tokens, on the samples that both answered."""
    shared = candidate.outputs.keys() & reference.outputs.keys()
    expected = sum(len(reference.outputs[sample]) for sample in shared)
    came = sum(len(candidate.outputs[sample]) for sample in shared)
    return came / expected if expected else None


def passes_gate(track: Track, ratio: float | None, length: float | None) -> bool | None:
    """Whether a result keeps the closed track's accuracy and length; None where neither gates."""
    targets = p.accuracy_targets(track)
    if targets is None:
        return None
    if ratio is None or length is None:
        return False
    low, high = p.LENGTH_CORRIDOR
    return ratio >= targets[0] - p.RELATIVE_TOLERANCE and low <= length <= high


def derive_results(
    case: CaseFacts,
    kernels: Sequence[KernelFacts],
    *,
    samples: Sequence[SampleRow],
    nll: Sequence[NllRow],
    ceilings: Sequence[CeilingRow],
    is_right: IsRight,
) -> list[KernelResult]:
    """Derive the published result of every kernel of a bundle.

    Raises MeasurementInvalid where times are out of order or the pairs do not match.
    """
    roof = derive_ceilings(ceilings)
    medians: dict[str, float] = {ceiling.ceiling: ceiling.median for ceiling in roof}
    reference = score(samples, REFERENCE, is_right)
    results = []
    for facts in kernels:
        measured = derive(case.scenario, samples, facts.kernel)
        if case.kind == "images":
            measured = _without_tokens(measured)
        speedup = None
        if facts.kernel != REFERENCE:
            speedup = derive_speedup(case.scenario, samples, REFERENCE, facts.kernel)
        own = score(samples, facts.kernel, is_right)
        partial = _result(case, facts, measured, speedup)
        partial |= _quality(case, own, reference)
        partial["call_nll"] = call_nll(nll, facts.kernel)
        work = work_of(
            case.scenario,
            mode_rows(samples, facts.kernel, "performance"),
            case.prompt_tokens,
            case.model_of(facts.kernel),
        )
        partial["sustained"] = sustained_rates(mode_rows(samples, facts.kernel, "performance"))
        partial["roofline"] = place(work, _executed(case, facts), medians)
        result = KernelResult.model_validate({**partial, "valid": True})
        results.append(_judged(case, facts, result, roof))
    return results


def _without_tokens(measured: ScenarioResult) -> ScenarioResult:
    """An answer of one class has no tokens to count or to wait for."""
    return replace(
        measured, ttft_p90_ms=None, tpot_p90_ms=None, tokens_per_s=None, mean_output_tokens=None
    )


def _result(
    case: CaseFacts,
    facts: KernelFacts,
    measured: ScenarioResult,
    speedup: stats.Speedup | None,
) -> dict[str, object]:
    names = ScenarioResult.__dataclass_fields__
    return {
        **{name: getattr(measured, name) for name in names},
        "kernel": facts.kernel,
        "executed_path": facts.executed_path,
        "transform": facts.transform,
        "energy": facts.energy,
        "energy_beside": list(facts.energy_beside),
        "energy_metrics": facts.energy_metrics,
        "weight_bytes": facts.weight_bytes,
        "peak_memory_bytes": facts.peak_memory_bytes,
        "batch_size": facts.batch_size,
        "timed_weights": facts.timed_weights,
        "cost": facts.cost,
        "speedup": speedup.ratio if speedup else None,
        "speedup_ci95": speedup.ci95 if speedup else None,
    }


def _quality(case: CaseFacts, own: Scored, reference: Scored) -> dict[str, object]:
    ratio = None
    if own.accuracy is not None and reference.accuracy:
        ratio = own.accuracy / reference.accuracy
    return {
        "accuracy": own.accuracy,
        "accuracy_samples": len(own.outputs),
        "accuracy_reference": reference.accuracy,
        "accuracy_ratio": ratio,
        "accuracy_passed": passes_gate(case.track, ratio, length_ratio(own, reference)),
    }


def _executed(case: CaseFacts, facts: KernelFacts) -> Executed:
    return Executed(
        weight_bytes=facts.weight_bytes,
        batch_size=facts.batch_size,
        arithmetic=facts.arithmetic,
        last_level_cache_bytes=case.last_level_cache_bytes,
    )


def _judged(
    case: CaseFacts, facts: KernelFacts, result: KernelResult, roof: Sequence[Ceiling]
) -> KernelResult:
    counts = p.PROFILES[case.profile].counts(case.workload, case.scenario)
    reasons = [
        *facts.invalid_reasons,
        *invalid_reasons(result, counts, case.scored_count, roof),
    ]
    return result.model_copy(
        update={
            "valid": not reasons,
            "invalid_reasons": reasons,
            "warnings": [*facts.warnings, *warnings(result, case.scenario, roof)],
        }
    )
