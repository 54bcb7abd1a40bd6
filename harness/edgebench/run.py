"""`bench run`: measures every scenario that fits into the time, and files a bundle for each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edgebench import machine, meters
from edgebench.conditions import Watch
from edgebench.devices import ResolvedDevice, require_multiprocessors, resolve
from edgebench.draft import (
    Circumstances,
    begun_tuning,
    draft_record,
    finished_record,
    new_run_id,
    resumable_run_id,
)
from edgebench.errors import (
    EXIT_OK,
    DeviceUnavailable,
    RuleViolation,
    RunFailed,
    SpecError,
    harness_error,
)
from edgebench.filing import existing_record, kept_tensors, open_writer
from edgebench.forecast import PlannedScenario, plan_scenarios
from edgebench.job import ScenarioJob
from edgebench.lineup import Lineup, ask_server
from edgebench.lock import MachineLock
from edgebench.measure import measure_scenario
from edgebench.meters.nvml import first_visible, load_nvml
from edgebench.openai.discovery import Served
from edgebench.openai.engine import External, connect
from edgebench.prepare import prepare
from edgebench.prepared import PreparedWorkload
from edgebench.profiles import PROFILES
from edgebench.progress import Progress
from edgebench.record import KernelTuning, Record, Scenario
from edgebench.spec import RunSpec
from edgebench.system import SystemDescription, describe_system, usable_cores
from edgebench.target import Target, open_target
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.errors import WorkloadError


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A scenario that was not measured, and why."""

    workload: str
    scenario: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Campaign:
    """One `bench run` as it goes: what is fixed, and what came of it so far."""

    spec: RunSpec
    run_id: str
    device: ResolvedDevice
    system: SystemDescription
    target: Target
    selection: meters.MeterSelection
    watch: Watch
    load_before: float | None
    """Load average when the command began."""
    threads: int
    kernel_tuning: KernelTuning | None = None
    served: Served | None = None
    """The server to measure, and that answered; None for our own engine."""
    at_end: ExitStack
    """Closes what a workload opened."""
    lock: MachineLock
    progress: Progress
    started_s: float
    records: list[Record] = field(default_factory=list)
    bundles: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def elapsed_s(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.started_s

    def skip(self, workload: str, scenario: str, reason: str) -> None:
        """Leave a scenario out, and say so."""
        self.skipped.append(Skipped(workload=workload, scenario=scenario, reason=reason))
        self.progress.note(f"skipped {workload} {scenario}: {reason}")


def run(spec: RunSpec, progress: Progress) -> Campaign:
    """Measure what the spec asks for.

    Raises DeviceUnavailable, RunFailed, StorageError; KeyboardInterrupt passes, and what was
    measured is on disk by then.
    """
    started_s = time.monotonic()
    set_affinity(spec.affinity)
    served = connect(spec.external) if spec.external else None  # before minutes are spent
    root = machine.find_root()
    load_before = Watch(root).look().load
    device = resolve(spec.device, root, simulated=machine.is_simulated(root))
    require_engine(spec, device)
    selection = selected_meters(spec, device, root)
    target = open_target(device.backend)
    require_multiprocessors(device.name, target.multiprocessors())
    with MachineLock() as lock, target.errors(), ExitStack() as at_end:
        campaign = Campaign(
            spec=spec,
            run_id=(resumable_run_id(spec) if spec.resume else None) or new_run_id(),
            device=device,
            system=target.described(describe_system(root)),
            target=target,
            selection=selection,
            watch=watch_of(device, root),
            load_before=load_before,
            threads=spec.threads or usable_cores(),
            served=served,
            at_end=at_end,
            lock=lock,
            progress=progress,
            started_s=started_s,
        )
        _announce(campaign)
        begun = begun_tuning(spec, campaign.run_id, campaign.threads) if spec.resume else None
        campaign.kernel_tuning = target.prepare(campaign.threads, spec.affinity, begun)
        for name in spec.workloads:
            _run_workload(campaign, name)
    return campaign


def require_engine(spec: RunSpec, device: ResolvedDevice) -> None:
    """SpecError before any work where a device has no engine for a workload."""
    images = [name for name in spec.workloads if WORKLOADS[name].kind == "images"]
    if images and device.backend != "cpu":
        raise SpecError(
            f"[run] expected workloads of text on {device.name}, got {', '.join(images)}: networks "
            "of images run on CPUs alone; use --device cpu"
        )


def selected_meters(spec: RunSpec, device: ResolvedDevice, root: Path) -> meters.MeterSelection:
    """Probe the meters; DeviceUnavailable where power is required and nothing can measure it."""
    selection = meters.select(device, spec.meter, root=root)
    if spec.require_power and selection.primary is None:
        raise DeviceUnavailable(
            f"[--require-power] expected a meter that covers what kernels execute on, got none: "
            f"{selection.reason}; `bench doctor` shows what is missing"
        )
    return selection


def watch_of(device: ResolvedDevice, root: Path) -> Watch:
    """What reads the machine's state while blocks run; the GPU's only where kernels run on it."""
    if device.backend != "cuda":
        return Watch(root)
    visible = first_visible(os.environ)
    gpu = int(visible) if visible.isdecimal() else 0
    return Watch(root, nvml=load_nvml(root)[0], gpu=gpu, own_processes=1)


def exit_code(campaign: Campaign) -> int:
    """0 when everything measured counts, 4 when nothing was measured, 5 when a rule was missed."""
    results = [result for record in campaign.records for result in record.results]
    if not results:
        return RunFailed.exit_code
    met = all(result.valid and result.accuracy_passed is not False for result in results)
    return EXIT_OK if met else RuleViolation.exit_code


def _announce(campaign: Campaign) -> None:
    note = campaign.progress.note
    note(f"{campaign.device.name}: {campaign.device.executed_on}, {campaign.threads} threads")
    for text in campaign.device.notes:
        note(text)
    if campaign.selection.primary is None:
        note(f"energy: unmeasured ({campaign.selection.reason})")
    else:
        note(f"energy: {campaign.selection.primary.meter} {campaign.selection.primary.domain}")
    if campaign.lock.other_runs_seen:
        note("another EdgeBench run is on this machine; both records say so")
    if campaign.lock.unavailable is not None:
        note(f"other runs on this machine cannot be noticed: {campaign.lock.unavailable}")


def set_affinity(cpus: Sequence[int] | None) -> None:
    """Keep this process, and all threads it starts from now on, on the CPUs asked for."""
    if cpus is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise DeviceUnavailable("[run] this system cannot keep a process on CPUs; omit --affinity")
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as error:
        there = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise SpecError(
            f"[run] expected --affinity to name CPUs of this process ({there}), "
            f"got {','.join(map(str, cpus))}"
        ) from error


def _run_workload(campaign: Campaign, name: str) -> None:
    try:
        needed_bytes = WORKLOADS[name].reference_size_bytes
    except WorkloadError as error:
        raise harness_error(error) from error
    shortage = campaign.target.memory_shortage(needed_bytes, campaign.system)
    if shortage is not None:
        for scenario in campaign.spec.scenarios:
            campaign.skip(name, scenario, shortage)
        return
    transform = campaign.spec.transform if campaign.served is None else None
    prepared = prepare(name, transform, campaign.progress)
    external = ask_server(
        campaign.spec.external, campaign.served, prepared, campaign.progress, campaign.at_end
    )
    pending = list(_pending(campaign, prepared, external))
    if not pending:
        return
    with campaign.progress.stage(f"{name}: packing and probing") as update:
        own = campaign.target.engines(prepared, campaign.spec.kernels)
        lineup = Lineup(own=own, external=external)
        is_metered = campaign.selection.primary is not None
        plan = list(plan_scenarios(campaign.spec, prepared, lineup, pending, is_metered=is_metered))
        update(1, 1)
    _announce_plan(campaign, plan)
    for planned in plan:
        _run_scenario(campaign, prepared, lineup, planned)


def _announce_plan(campaign: Campaign, plan: Sequence[PlannedScenario]) -> None:
    """Say before measuring what each scenario takes, whether it fits, and what it buys."""
    spent_s = campaign.elapsed_s()
    for forecast in (planned.forecast for planned in plan):
        shortage = forecast.shortage(spent_s, campaign.spec.budget_s)
        fits = "fits" if shortage is None else f"does not fit: {shortage}"
        campaign.progress.note(f"{forecast.summary}: {fits}")
        spent_s += forecast.estimate.total_s if shortage is None else 0.0


def _draft(
    campaign: Campaign, prepared: PreparedWorkload, external: External | None, scenario: Scenario
) -> Record:
    given = Circumstances(
        run_id=campaign.run_id,
        device=campaign.device,
        system=campaign.system,
        threads=campaign.threads,
        cache_bytes=campaign.target.cache_bytes(campaign.system),
        kernel_tuning=campaign.kernel_tuning,
        other_runs_seen=campaign.lock.other_runs_seen,
        external=external.described() if external else None,
    )
    return draft_record(campaign.spec, scenario, prepared.identity, given, prepared.not_closed)


def _pending(
    campaign: Campaign, prepared: PreparedWorkload, external: External | None
) -> Iterator[Scenario]:
    """Yield the scenarios to measure; a resumed run takes over what it had finished."""
    for scenario in campaign.spec.scenarios:
        draft = _draft(campaign, prepared, external, scenario)
        existing = existing_record(campaign.spec, draft, prepared.ledger)
        if existing is None:
            yield scenario
            continue
        campaign.progress.note(f"{draft.workload.name} {scenario}: finished before")
        campaign.records.append(existing.record)
        campaign.bundles.append(existing.path)


def _run_scenario(
    campaign: Campaign,
    prepared: PreparedWorkload,
    lineup: Lineup,
    planned: PlannedScenario,
) -> None:
    spec, forecast = campaign.spec, planned.forecast
    shortage = forecast.shortage(campaign.elapsed_s(), spec.budget_s)
    if shortage is not None:
        campaign.skip(forecast.workload, forecast.scenario, shortage)
        return
    job = ScenarioJob(
        prepared=prepared,
        engines=planned.kernels,
        model=lineup.model,
        candidate_model=lineup.candidate_model,
        counts=forecast.counts,
        min_block_s=PROFILES[spec.profile].min_block_s,
        target=campaign.target,
        selection=campaign.selection,
        transform=spec.declared_transform,
        threads=campaign.threads,
        watch=campaign.watch,
        system=campaign.system,
        load_before=campaign.load_before,
        per_query_ns=forecast.pilot.fastest_ns,
    )
    draft = _draft(campaign, prepared, lineup.external, forecast.scenario)
    writer = open_writer(spec, draft, prepared, campaign.system)
    if spec.resume and not writer.samples:
        name = f"{draft.workload.name} {forecast.scenario}"
        campaign.progress.note(f"{name}: nothing of this request to go on with; measured anew")
    kept = kept_tensors(spec, draft, prepared)
    if kept is not None:
        campaign.progress.note(f"too large for a bundle; check it with --tensors {kept}")
    record = measure_scenario(job, writer, campaign.progress)
    record = finished_record(record, other_runs_seen=campaign.lock.check())
    campaign.bundles.append(writer.finish(record))
    campaign.records.append(writer.record)
