"""Measuring one scenario: kernels alternating in blocks, then their accuracy, into one bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgebench import meters
from edgebench.bundle import BundleWriter
from edgebench.condition_log import ConditionLog
from edgebench.conditions_verdict import judge
from edgebench.derive import (
    CaseFacts,
    KernelFacts,
    block_windows,
    derive_ceilings,
    derive_results,
)
from edgebench.energy_metrics import energy_metrics
from edgebench.estimate import CEILING_STRIDE
from edgebench.interleave import (
    BlockKey,
    Hooks,
    Plan,
    finished_blocks,
    run_interleaved,
)
from edgebench.job import AnyEngine, ScenarioJob, sut_of
from edgebench.meters import powercsv
from edgebench.openai.engine import ExternalEngine
from edgebench.plans import accuracy_plan, performance_plan
from edgebench.profiles import CEILING_REPEATS, IDLE_S, MIN_CEILING_REPEATS
from edgebench.progress import Progress
from edgebench.record import (
    CeilingRow,
    Energy,
    EnergyMetrics,
    Kernel,
    KernelResult,
    Record,
    SampleRow,
    TimedWeights,
)
from edgebench.scenarios import mode_rows
from edgebench.target import Target
from edgebench.timed_weights import WeightsBefore
from edgebench.units import NS_PER_S


@dataclass(slots=True)
class _Observed:
    """What the hooks saw around the blocks."""

    peak_bytes: dict[Kernel, int] = field(default_factory=dict)
    weights: dict[Kernel, TimedWeights] = field(default_factory=dict)


def measure_scenario(job: ScenarioJob, writer: BundleWriter, progress: Progress) -> Record:
    """Measure, score and derive one scenario; returns the record, complete but not yet finished.

    Raises RunFailed, StorageError or KeyboardInterrupt; whole blocks are on disk by then.
    """
    record = writer.record
    label = f"{record.workload.name} {record.scenario}"
    observed = _Observed()
    before = {
        kernel: WeightsBefore.of(engine.packed, job.prepared.quantized)
        for kernel, engine in job.engines.items()
        if engine.packed
    }
    begun = bool(writer.samples)
    with meters.PowerLog(job.selection.working, writer.power_path) as power:
        idle = [_rest(job, record, progress)]
        with ConditionLog(job.watch) as seen:
            _run_plan(job, writer, performance_plan, observed, progress, label)
        idle.append(_rest(job, record, progress))
    observed.weights = {kernel: weights.after() for kernel, weights in before.items()}
    if job.counts.scored_on == "scored-set":
        _run_plan(job, writer, accuracy_plan, _Observed(), progress, f"{label} accuracy")
    _score_likelihood(job, writer, progress, label)
    _fill_ceilings(job, writer)
    record = record.model_copy(
        update={
            "idle_windows": [window for window in idle if window is not None],
            "conditions": seen.summary(job.system, load_before=job.load_before, covers_part=begun),
            "ceilings": derive_ceilings(writer.ceilings),
        }
    )
    results = _derive(job, writer, record, observed, tuple(power.failures.items()))
    return record.model_copy(update={"results": results})


def _rest(job: ScenarioJob, record: Record, progress: Progress) -> tuple[int, int] | None:
    """Let the machine idle, the models loaded, so that its idle power is known; (start, end)."""
    if job.selection.primary is None:
        return None
    with progress.stage("idle power"):
        started_ns = time.monotonic_ns()
        time.sleep(IDLE_S[record.profile])
        return started_ns, time.monotonic_ns()


def _run_plan(
    job: ScenarioJob,
    writer: BundleWriter,
    make_plan: Callable[[ScenarioJob, Record, Sequence[SampleRow]], Plan],
    observed: _Observed,
    progress: Progress,
    label: str,
) -> None:
    plan = make_plan(job, writer.record, writer.samples)
    suts = {kernel: sut_of(job.prepared, engine) for kernel, engine in job.engines.items()}
    # Blocks may be an endless iterator, so what a resumed run has already is found in a second one.
    blocks = make_plan(job, writer.record, writer.samples).blocks
    done = finished_blocks(writer.samples, blocks, plan.mode)
    _drop_unfinished(writer, plan, done)
    pending: list[SampleRow] = []
    hooks = Hooks(before=lambda *_: job.target.reset_peak(), after=_peak_hook(job.target, observed))
    total = len(plan.blocks) * len(suts) if isinstance(plan.blocks, Sequence) else None
    if plan.mode == "performance":
        _measure_ceilings(job, writer)
    with progress.stage(label) as update:
        steps = run_interleaved(plan, suts, pending.append, hooks=hooks, already_done=done)
        measured_ns = dict.fromkeys(suts, 0)
        for finished, block in enumerate(steps, start=1):
            if not block.resumed:
                writer.append_samples(pending)
                pending.clear()
            measured_ns[block.kernel] += block.measured_ns
            update(*_progress(job, finished, total, measured_ns))
            if plan.mode == "performance" and _is_ceiling_due(finished, total):
                _measure_ceilings(job, writer)


def _progress(
    job: ScenarioJob, finished: int, total: int | None, measured_ns: Mapping[Kernel, int]
) -> tuple[int, int]:
    """Return (done, all): of blocks, or of seconds where measured time is the end."""
    if total is not None:
        return finished, total
    each_s = job.counts.min_duration_s
    done_s = sum(min(each_s, ns / NS_PER_S) for ns in measured_ns.values())
    return int(done_s), max(1, int(each_s * len(measured_ns)))


def _drop_unfinished(
    writer: BundleWriter, plan: Plan, done: Mapping[BlockKey, Sequence[SampleRow]]
) -> None:
    """Let go of rows that this attempt will measure again."""
    kept = [row for row in writer.samples if row.mode != plan.mode]
    kept += [row for rows in done.values() for row in rows]
    if len(kept) != len(writer.samples):
        writer.replace_samples(kept)


def _peak_hook(target: Target, observed: _Observed) -> Callable[[Kernel, int], None]:
    def after(kernel: Kernel, block: int) -> None:
        peak = target.peak_memory_bytes()
        if peak is not None:
            observed.peak_bytes[kernel] = max(peak, observed.peak_bytes.get(kernel, 0))

    return after


def _is_ceiling_due(finished: int, total: int | None) -> bool:
    """Spread the repeats over the run evenly, or every so often when its end is open."""
    if total is None:
        return finished % CEILING_STRIDE == 0
    parts = CEILING_REPEATS - 1
    return finished * parts // total > (finished - 1) * parts // total


def _measure_ceilings(job: ScenarioJob, writer: BundleWriter) -> None:
    """Repeat every ceiling once, between blocks."""
    rows = []
    for name in job.target.ceilings:
        sample = job.target.measure_ceiling(name, job.threads)
        if sample is None:
            continue
        rows.append(
            CeilingRow(
                ceiling=name,
                instruction=sample.instruction,
                threads=sample.threads,
                taken_ns=time.monotonic_ns(),
                value=sample.value,
            )
        )
    writer.append_ceilings(rows)


def _fill_ceilings(job: ScenarioJob, writer: BundleWriter) -> None:
    """Repeat the ceilings until each has its repeats: short runs have few blocks to go between."""
    for _ in range(MIN_CEILING_REPEATS):
        names = job.target.ceilings
        counted = [sum(row.ceiling == name for row in writer.ceilings) for name in names]
        if min((count for count in counted if count), default=0) >= MIN_CEILING_REPEATS:
            return
        _measure_ceilings(job, writer)


def _score_likelihood(
    job: ScenarioJob, writer: BundleWriter, progress: Progress, label: str
) -> None:
    wanted = job.counts.nll_samples or job.prepared.scored_count
    for kernel, engine in job.engines.items():
        if isinstance(engine, ExternalEngine):
            continue  # a server shows text alone
        if sum(row.kernel == kernel for row in writer.nll) >= wanted:
            continue
        with progress.stage(f"{label} likelihood {kernel}") as update:
            writer.append_nll(list(job.prepared.likelihood(engine, wanted, update)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metered:
    """What the meters saw of one kernel."""

    energy: Energy
    beside: tuple[Energy, ...] = ()
    metrics: EnergyMetrics | None = None


def _metered(
    job: ScenarioJob, writer: BundleWriter, record: Record, engine: AnyEngine, failures: str
) -> _Metered:
    """Integrate what the machine's meters saw; they do not see a server on another machine."""
    unseen = engine.energy_reason if isinstance(engine, ExternalEngine) else None
    windows = block_windows(writer.samples, engine.kernel)
    log = powercsv.load(writer.power_path)
    energy = meters.integrate(
        log,
        windows,
        source=None if unseen else job.selection.primary,
        reason=unseen or job.selection.reason,
        idle=record.idle_windows,
    )
    if failures and energy.status != "measured":
        energy = energy.model_copy(update={"reason": f"{energy.reason}; {failures}"[:2000]})
    if unseen:
        return _Metered(energy=energy)
    rows = mode_rows(writer.samples, engine.kernel, "performance")
    prompts = list(job.prepared.input_tokens)
    return _Metered(
        energy=energy,
        beside=tuple(
            meters.integrate(log, windows, source=source, idle=record.idle_windows)
            for source in job.selection.beside
        ),
        metrics=energy_metrics(record.scenario, rows, prompts, energy, log),
    )


def _case_facts(job: ScenarioJob, record: Record) -> CaseFacts:
    """What the run as a whole says, whichever kernel."""
    return CaseFacts(
        track=record.track,
        workload=record.workload.name,
        scenario=record.scenario,
        profile=record.profile,
        scored_count=job.prepared.scored_count,
        prompt_tokens=job.prepared.input_tokens,
        kind=job.prepared.workload.kind,
        model=job.model,
        candidate_model=job.candidate_model,
        last_level_cache_bytes=record.host.last_level_cache_bytes,
    )


def _derive(
    job: ScenarioJob,
    writer: BundleWriter,
    record: Record,
    observed: _Observed,
    meter_failures: tuple[tuple[str, str], ...],
) -> list[KernelResult]:
    failures = tuple(f"meter {name} failed: {why}" for name, why in meter_failures)
    metered = {
        kernel: _metered(job, writer, record, engine, "; ".join(failures))
        for kernel, engine in job.engines.items()
    }
    case = _case_facts(job, record)
    judgement = judge(record.conditions, record.track)
    facts = [
        KernelFacts(
            kernel=kernel,
            executed_path=engine.executed_path,
            transform="none" if kernel == "fp16" else job.transform,
            batch_size=engine.batch_size,
            weight_bytes=engine.weight_bytes,
            peak_memory_bytes=observed.peak_bytes.get(kernel) if engine.is_in_process else None,
            arithmetic=engine.arithmetic,
            timed_weights=observed.weights.get(kernel),
            energy=metered[kernel].energy,
            energy_beside=metered[kernel].beside,
            energy_metrics=metered[kernel].metrics,
            cost=None if isinstance(engine, ExternalEngine) else engine.cost,
            invalid_reasons=judgement.invalid_reasons,
            warnings=(*engine.warnings, *failures, *judgement.warnings),
        )
        for kernel, engine in job.engines.items()
    ]
    return derive_results(
        case,
        facts,
        samples=writer.samples,
        nll=writer.nll,
        ceilings=writer.ceilings,
        is_right=job.prepared.judge().is_right,
    )
