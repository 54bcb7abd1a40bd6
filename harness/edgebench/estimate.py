"""Estimates before measuring: how long a scenario will take here, and whether memory suffices."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgebench.errors import RunFailed
from edgebench.job import AnyEngine, sut_of
from edgebench.loadgen import run_offline, run_single_stream
from edgebench.prepare import PreparedWorkload
from edgebench.profiles import Counts
from edgebench.record import Kernel, Scenario
from edgebench.system import SystemDescription
from edgebench.transform import TransformChain
from edgebench.transform.calibration import DEFAULT_SAMPLES, CalibrationSet
from edgebench.transform.footprint import footprint
from edgebench.units import NS_PER_S, format_bytes

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig

PROBE_QUERIES = 4  # the first two warm up
PROBE_SAMPLES = 16  # of an offline probe: a small batch is slower per sample, so it errs high
LIKELIHOOD_SHARE = 0.3  # of a single-stream query: one pass over prompt and call, batched
CEILINGS_S = 3.0  # five repeats of four ceilings
MEMORY_PER_WEIGHT_BYTE = 3.5  # fp16 weights, a bf16 copy, canonical and packed INT4, the KV cache


def probe_ns(prepared: PreparedWorkload, engine: AnyEngine) -> int:
    """Measure one kernel briefly: ns per single-stream query, or per offline sample."""
    sut = sut_of(prepared, engine)
    if engine.batch_size > 1:
        begin = time.monotonic_ns()
        run_offline(sut, range(PROBE_SAMPLES))
        return (time.monotonic_ns() - begin) // PROBE_SAMPLES
    timings = list(run_single_stream(sut, range(PROBE_QUERIES)))[PROBE_QUERIES // 2 :]
    return min(t.completed_ns - t.issued_ns for t in timings)  # whoever disturbs, only adds


def scenario_s(
    scenario: Scenario, counts: Counts, population: int, per_query_ns: Mapping[Kernel, int]
) -> float:
    """Estimate how many seconds a scenario takes, accuracy and likelihood included."""
    per_sample = 1 if scenario == "single-stream" else counts.samples_per_round or population
    samples = counts.min_queries * per_sample
    if counts.scored_on == "scored-set":
        samples += population
    share = LIKELIHOOD_SHARE if scenario == "single-stream" else 1.0
    samples_equal = samples + share * (counts.nll_samples or population)
    measured_s = [
        max(samples_equal * each / NS_PER_S, counts.min_duration_s)
        for each in per_query_ns.values()
    ]
    return sum(measured_s) + CEILINGS_S


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


def _tokens(transform: TransformChain, calibration: CalibrationSet | None) -> int:
    """How many calibration tokens a chain takes."""
    if calibration is None:
        return 0
    given = [step.parameters.get("samples") for step in transform.steps]
    samples = next((int(count) for count in given if count is not None), DEFAULT_SAMPLES)
    return sum(map(len, calibration.sequences[:samples]))
