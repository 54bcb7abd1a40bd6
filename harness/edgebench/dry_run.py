"""`bench run --dry-run`: what a run would do here, how long, and what it would be worth.

Weights are read, quantized and probed as a run would, one workload at a time; nothing is measured
and nothing is written. A model that does not fit, or is not generated yet, is not probed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgebench import meters
from edgebench.devices import ResolvedDevice, resolve
from edgebench.errors import EXIT_OK, RunFailed, StorageError, harness_error
from edgebench.forecast import Forecast, plan_scenarios
from edgebench.lineup import Lineup, ask_server
from edgebench.machine import find_root, is_simulated
from edgebench.openai.discovery import Served
from edgebench.openai.engine import connect
from edgebench.prepare import prepare
from edgebench.profiles import PROFILES
from edgebench.progress import Progress, Update
from edgebench.record import Scenario
from edgebench.run import require_engine, selected_meters, set_affinity
from edgebench.spec import RunSpec
from edgebench.system import SystemDescription, describe_system, usable_cores
from edgebench.target import Target, open_target
from edgebench.transform import WITHOUT_DATA, TransformChain, parse_transform
from edgebench.units import format_bytes
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.errors import WorkloadError

ENOUGH_S = 5.0  # of a transform that learns from data, before its length is extrapolated


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One scenario in the plan; without a forecast it was not probed."""

    scenario: Scenario
    forecast: Forecast | None
    obstacle: str | None
    """Why it would be skipped; None: it fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPlan:
    """One workload: seconds before its first measurement, then its scenarios."""

    name: str
    load_s: float | None = None
    quantize_s: float | None = None
    pack_s: float | None = None
    """Building the engines and probing them."""
    notes: tuple[str, ...] = ()
    scenarios: tuple[PlannedRun, ...]

    @property
    def total_s(self) -> float:
        """Everything that would be done; what was not probed counts for nothing."""
        runs = (run.forecast for run in self.scenarios if run.obstacle is None and run.forecast)
        before = (self.load_s or 0.0) + (self.quantize_s or 0.0) + (self.pack_s or 0.0)
        return before + sum(run.estimate.total_s for run in runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Everything that `--dry-run` prints."""

    spec: RunSpec
    device: ResolvedDevice
    system: SystemDescription
    threads: int
    selection: meters.MeterSelection
    workloads: tuple[WorkloadPlan, ...]

    @property
    def stamps(self) -> tuple[str, ...]:
        """The profile's."""
        return PROFILES[self.spec.profile].stamps

    @property
    def total_s(self) -> float:
        """The whole run."""
        return sum(workload.total_s for workload in self.workloads)

    def folder(self, workload: str, scenario: Scenario) -> Path:
        """Where a bundle would be filed; the run id comes with the run."""
        spec = self.spec
        return (
            spec.out / spec.track / spec.organisation / self.system.name / workload / scenario
        ) / "<run id>"

    @property
    def exit_code(self) -> int:
        """What the run would end with, as far as can be foreseen: 4 where nothing would be done."""
        runs = [run for workload in self.workloads for run in workload.scenarios]
        if all(run.obstacle is not None for run in runs):
            return RunFailed.exit_code
        return EXIT_OK


@dataclass(slots=True)
class StageClock:
    """A progress that also remembers how long each stage took, in seconds."""

    inner: Progress
    took_s: dict[str, float] = field(default_factory=dict)
    enough: Callable[[str, int, int, float], None] | None = None
    """Called with (stage, done, total, seconds so far); may raise to end the stage."""

    def note(self, text: str) -> None:
        """Pass it on."""
        self.inner.note(text)

    @contextmanager
    def stage(self, title: str) -> Iterator[Update]:
        """Time the stage."""
        begun_s = time.monotonic()
        with self.inner.stage(title) as shown:

            def update(done: int, total: int) -> None:
                shown(done, total)
                if self.enough is not None:
                    self.enough(title, done, total, time.monotonic() - begun_s)

            try:
                yield update
            finally:
                self.took_s[title] = time.monotonic() - begun_s


def plan_run(spec: RunSpec, progress: Progress) -> RunPlan:
    """Plan a run; raises what the run would raise before it measures."""
    _check_out(spec.out)
    set_affinity(spec.affinity)
    served = connect(spec.external) if spec.external else None
    root = find_root()
    device = resolve(spec.device, root, simulated=is_simulated(root))
    require_engine(spec, device)
    selection = selected_meters(spec, device, root)
    target = open_target(device.backend)
    threads = spec.threads or usable_cores()
    with target.errors():
        system = target.described(describe_system(root))
        begun_s = time.monotonic()
        target.prepare(threads, spec.affinity, None)
        spent_s = time.monotonic() - begun_s
        setting = _Setting(
            spec=spec,
            target=target,
            system=system,
            served=served,
            is_metered=selection.primary is not None,
            progress=progress,
        )
        workloads = []
        for name in spec.workloads:
            plan = _plan_workload(setting, name, spent_s)
            spent_s += plan.total_s
            workloads.append(plan)
    return RunPlan(
        spec=spec,
        device=device,
        system=system,
        threads=threads,
        selection=selection,
        workloads=tuple(workloads),
    )


def _check_out(out: Path) -> None:
    """Refuse, as the run would, a root that is no folder or cannot be written."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise StorageError(
            f"[run] expected --out to be a folder that can be written, got {out}: {there} "
            f"{'is read-only for you' if there.is_dir() else 'is a file'}; name another"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What all workloads of a plan share."""

    spec: RunSpec
    target: Target
    system: SystemDescription
    served: Served | None
    is_metered: bool
    progress: Progress


def _plan_workload(setting: _Setting, name: str, spent_s: float) -> WorkloadPlan:
    spec, target, progress = setting.spec, setting.target, setting.progress
    obstacle = _obstacle(name, target, setting.system)
    if obstacle is not None:
        runs = [PlannedRun(scenario=s, forecast=None, obstacle=obstacle) for s in spec.scenarios]
        return WorkloadPlan(name=name, scenarios=tuple(runs), notes=("not probed",))
    clock = StageClock(progress)
    quantize_s: float | None = None
    notes: tuple[str, ...] = ()
    chain: TransformChain | None = None
    if setting.served is None:
        quantize_s, notes, chain = _quantize_time(spec.transform, name, progress)
    prepared = prepare(name, chain, clock)
    if quantize_s is None:
        quantize_s = clock.took_s.get(f"{name}: {chain}", 0.0)
    packing = f"{name}: packing and probing"
    with ExitStack() as at_end:
        external = ask_server(spec.external, setting.served, prepared, clock, at_end)
        with clock.stage(packing) as update:
            lineup = Lineup(own=target.engines(prepared, spec.kernels), external=external)
            planned = list(
                plan_scenarios(
                    spec, prepared, lineup, spec.scenarios, is_metered=setting.is_metered
                )
            )
            update(1, 1)
    load_s, pack_s = clock.took_s[f"{name}: weights"], clock.took_s[packing]
    spent_s += load_s + quantize_s + pack_s
    runs = []
    for forecast in (item.forecast for item in planned):
        shortage = forecast.shortage(spent_s, spec.budget_s)
        spent_s += forecast.estimate.total_s if shortage is None else 0.0
        runs.append(PlannedRun(scenario=forecast.scenario, forecast=forecast, obstacle=shortage))
    return WorkloadPlan(
        name=name,
        load_s=load_s,
        quantize_s=quantize_s,
        pack_s=pack_s,
        notes=notes,
        scenarios=tuple(runs),
    )


def _obstacle(name: str, target: Target, system: SystemDescription) -> str | None:
    """Say why a workload cannot be probed, else None."""
    workload = WORKLOADS[name]
    try:
        size_bytes, plan = workload.reference_size_bytes, workload.plan
    except WorkloadError as error:
        raise harness_error(error) from error
    shortage = target.memory_shortage(size_bytes, system)
    if shortage is not None:
        return shortage
    if plan is not None and not workload.cache_directory(plan).is_dir():
        return (
            f"its model is not generated yet ({format_bytes(size_bytes)}), and a dry run writes "
            "nothing; after a first bench run it can be planned"
        )
    return None


class _Enough(Exception):  # no error: the stage has said what it had to say
    """Ends a transform that has run long enough to tell how long it takes."""

    def __init__(self, expected_s: float) -> None:
        super().__init__(expected_s)
        self.expected_s = expected_s


def _quantize_time(
    chain: TransformChain, name: str, progress: Progress
) -> tuple[float | None, tuple[str, ...], TransformChain]:
    """Return (seconds of quantizing, notes, the chain to probe speed with).

    A transform that learns from data is begun, stopped after some seconds and extrapolated; speed
    is then probed on plainly rounded weights, whose kernels and bytes are the same.
    """
    if set(chain.names) <= WITHOUT_DATA or chain.changes:  # another model has another speed
        return None, (), chain
    title = f"{name}: {chain}"

    def enough(stage: str, done: int, total: int, so_far_s: float) -> None:
        if stage == title and done and so_far_s >= ENOUGH_S:
            raise _Enough(so_far_s * total / done)

    clock = StageClock(progress, enough=enough)
    try:
        prepare(name, chain, clock)
        expected_s, how = clock.took_s[title], "run to its end"
    except _Enough as stopped:
        expected_s, how = stopped.expected_s, f"begun for {clock.took_s[title]:.0f} s, extrapolated"
    plain = parse_transform(_plain(chain.steps[0].parameters))
    return expected_s, (f"{chain}: {how}; speed probed on {plain}",), plain


def _plain(parameters: Mapping[str, object]) -> str:
    """Round to nearest on the same grid."""
    kept = [f"{key}={parameters[key]}" for key in ("group", "symmetric") if key in parameters]
    return f"rtn:{','.join(kept)}" if kept else "rtn"
