"""Estimates before measuring: how long a scenario will take here, and whether memory suffices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebench.block_policy import block_policy
from edgebench.errors import RunFailed
from edgebench.interleave import round_samples
from edgebench.profiles import CEILING_REPEATS, MIN_BLOCK_S, MIN_PAIRED_BLOCKS, Counts
from edgebench.record import Kernel, Scenario
from edgebench.system import SystemDescription
from edgebench.transform import TransformChain
from edgebench.transform.calibration import DEFAULT_SAMPLES, CalibrationSet
from edgebench.transform.footprint import footprint
from edgebench.units import NS_PER_S, format_bytes

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig

LIKELIHOOD_SHARE = 0.3  # of a single-stream query: one pass over prompt and call, batched
REPEAT_S = 0.6  # of four ceilings, once
CEILING_STRIDE = 4  # blocks between repeats of the ceilings when the end is measured time
MEMORY_PER_WEIGHT_BYTE = 3.5  # fp16 weights, a bf16 copy, canonical and packed INT4, the KV cache


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioEstimate:
    """What one scenario takes, all kernels together, in seconds; `queries` are rounds offline."""

    queries: Mapping[Kernel, int]
    in_block: int
    """Queries of a block; a round is one."""
    measure_s: float
    accuracy_s: float
    likelihood_s: float
    ceilings_s: float

    @property
    def total_s(self) -> float:
        """Everything together."""
        return self.measure_s + self.accuracy_s + self.likelihood_s + self.ceilings_s

    @property
    def pairs(self) -> int:
        """How many blocks or rounds every kernel runs: what the speedup rests on."""
        return min(self.queries.values()) // self.in_block


def estimate_scenario(
    scenario: Scenario,
    counts: Counts,
    population: int,
    per_sample_ns: Mapping[Kernel, int],
    *,
    is_metered: bool = False,
) -> ScenarioEstimate:
    """Estimate a scenario from measured ns per sample; population is the scored set's size."""
    is_single = scenario == "single-stream"
    least, fast_ns = counts.samples_per_round or population, min(per_sample_ns.values())
    samples = 1 if is_single else round_samples(least, fast_ns, MIN_BLOCK_S * NS_PER_S)
    query_s = {kernel: samples * each / NS_PER_S for kernel, each in per_sample_ns.items()}
    in_pass = population if is_single and counts.equal_issue else 1
    policy = block_policy(counts, is_metered=is_metered)
    in_block = policy.size(per_sample_ns.values()) if is_single else 1
    if is_single and policy.is_counted:
        queries = dict.fromkeys(query_s, policy.spans(in_block)[-1].stop)
    else:
        least = max(counts.min_queries, MIN_PAIRED_BLOCKS * in_block)
        queries = {
            kernel: _queries(least, counts.min_duration_s, each, in_pass)
            for kernel, each in query_s.items()
        }
    measure_s = sum(queries[kernel] * each for kernel, each in query_s.items())
    once_s = sum(per_sample_ns.values()) * population / NS_PER_S
    share = LIKELIHOOD_SHARE if is_single else 1.0
    likelihood = share * (counts.nll_samples or population) / population
    repeats = CEILING_REPEATS
    if counts.min_duration_s > 0:
        block_s = MIN_BLOCK_S if is_single else max(query_s.values())
        repeats = max(repeats, int(measure_s / block_s / CEILING_STRIDE))
    return ScenarioEstimate(
        queries=queries,
        in_block=in_block,
        measure_s=measure_s,
        accuracy_s=once_s if counts.scored_on == "scored-set" else 0.0,
        likelihood_s=likelihood * once_s,
        ceilings_s=REPEAT_S * repeats,
    )


def _queries(least: int, min_duration_s: float, query_s: float, in_pass: int) -> int:
    """Return the queries or rounds after which a kernel has met its minimum."""
    needed = max(least, math.ceil(min_duration_s / query_s))
    return math.ceil(needed / in_pass) * in_pass


def memory_shortage(weights_bytes: int, system: SystemDescription) -> str | None:
    """Say why a model of so many fp16 bytes does not fit into the free memory, else None."""
    return shortage_of(int(weights_bytes * MEMORY_PER_WEIGHT_BYTE), system)


def shortage_of(needed: int, system: SystemDescription) -> str | None:
    """Say why so many bytes do not fit into the free memory, else None."""
    available = system.memory.available_bytes
    if available is None or available >= needed:
        return None
    return f"it needs about {format_bytes(needed)} of memory and {format_bytes(available)} are free"


def require_quantizing_memory(
    name: str,
    config: LlamaConfig,
    transform: TransformChain,
    calibration: CalibrationSet | None,
    system: SystemDescription,
) -> None:
    """Raise RunFailed, saying what takes how much, where a model is too large to quantize here."""
    needed = footprint(config, transform.names, _tokens(transform, calibration))
    shortage = shortage_of(needed.total_bytes, system)
    if shortage is not None:
        raise RunFailed(
            f"[transform] {transform} of {name} was not started: {shortage} ({needed}); take "
            "fewer samples, or a machine with more memory"
        )


def require_converting_memory(needed: int, name: str, system: SystemDescription) -> None:
    """Raise RunFailed where a 4-bit checkpoint takes more bytes to read than are free."""
    shortage = shortage_of(needed, system)
    if shortage is not None:
        raise RunFailed(
            f"[checkpoint] {name} was not started: {shortage}; take a machine with more memory"
        )


def _tokens(transform: TransformChain, calibration: CalibrationSet | None) -> int:
    """How many calibration tokens a chain takes."""
    if calibration is None:
        return 0
    given = [step.parameters.get("samples") for step in transform.steps]
    samples = next((int(count) for count in given if count is not None), DEFAULT_SAMPLES)
    return sum(map(len, calibration.sequences[:samples]))
