"""The words of `bench run --dry-run`: a page in Markdown, or the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from edgebench.confidence import expected_interval
from edgebench.dry_run import PlannedRun, RunPlan, WorkloadPlan
from edgebench.profiles import Counts
from edgebench.record import Scenario
from edgebench.units import DASH, format_duration

CAVEAT = "a plan, no measurement: nothing was written"
PARTS = ("measure_s", "accuracy_s", "likelihood_s", "ceilings_s", "total_s")


def _minutes(value_s: float | None) -> str:
    return DASH if value_s is None else f"{value_s / 60:.2f}"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _counts(scenario: Scenario, counts: Counts) -> str:
    """What the profile demands of every kernel, in words."""
    unit = "queries"
    if scenario == "offline":
        unit = f"rounds of {counts.samples_per_round or 'all'} samples"
    parts = [f"{counts.min_queries} {unit}"]
    if counts.min_duration_s > 0:
        parts.append(f"{counts.min_duration_s:g} s")
    if counts.equal_issue:
        parts.append("whole passes")
    return ", ".join(parts)


def _workload_rows(plan: RunPlan) -> Iterator[tuple[str, ...]]:
    for each in plan.workloads:
        yield each.name, _minutes(each.load_s), _minutes(each.quantize_s), _minutes(each.pack_s)


def _scenario_rows(plan: RunPlan) -> Iterator[tuple[str, ...]]:
    for workload in plan.workloads:
        for run in workload.scenarios:
            fits = "yes" if run.obstacle is None else f"no: {run.obstacle}"
            times = [DASH] * len(PARTS)
            demanded = DASH
            if run.forecast is not None:
                estimate = run.forecast.estimate
                times = [_minutes(getattr(estimate, name)) for name in PARTS]
                demanded = _counts(run.scenario, run.forecast.counts)
            yield workload.name, run.scenario, demanded, *times, fits


def _facts(plan: RunPlan) -> Iterator[str]:
    spec, primary = plan.spec, plan.selection.primary
    yield f"device: {plan.device.name}, {plan.device.executed_on}, {plan.threads} threads"
    yield f"request: {spec.track} track, profile {spec.profile}, {spec.declared_transform}"
    yield f"stamps: {', '.join(plan.stamps) or 'none'}"
    if primary is None:
        yield f"energy: unmeasured ({plan.selection.reason})"
    else:
        yield f"energy: {primary.meter} {primary.domain}"
    for workload in plan.workloads:
        yield from (f"{workload.name}: {note}" for note in workload.notes)
        for run in workload.scenarios:
            if run.forecast is not None:
                took = format_duration(run.forecast.pilot.took_s)
                yield f"{workload.name} {run.scenario}: {run.forecast.confidence}"
                yield f"{workload.name} {run.scenario}: probed {run.forecast.pilot.probed}, {took}"
            yield f"bundle: {plan.folder(workload.name, run.scenario)}"


def _markdown(plan: RunPlan) -> str:
    budget_s = plan.spec.budget_s
    against = "no budget" if budget_s is None else f"a budget of {_minutes(budget_s)}"
    lines = [f"Plan ({CAVEAT}); times in minutes", "", *(f"- {fact}" for fact in _facts(plan)), ""]
    columns: tuple[str, ...] = ("workload", "load", "quantize", "pack and probe")
    lines += [*_table(columns, _workload_rows(plan)), ""]
    demanded = "every kernel, at least"
    parts = tuple(name.removesuffix("_s") for name in PARTS)
    columns = ("workload", "scenario", demanded, *parts, "fits")
    lines += [*_table(columns, _scenario_rows(plan)), ""]
    lines.append(f"Total: {_minutes(plan.total_s)} min against {against}.")
    return "\n".join(lines)


def _run_json(plan: RunPlan, workload: WorkloadPlan, run: PlannedRun) -> dict[str, object]:
    shown: dict[str, object] = {
        "scenario": run.scenario,
        "fits": run.obstacle is None,
        "obstacle": run.obstacle,
        "bundle": str(plan.folder(workload.name, run.scenario)),
    }
    if run.forecast is None:
        return shown | {"probed": None}
    forecast = run.forecast
    estimate, pilot = forecast.estimate, forecast.pilot
    return shown | {
        "probed": pilot.probed,
        "probe_s": pilot.took_s,
        "per_sample_ns": dict(pilot.per_sample_ns),
        "demanded": _counts(run.scenario, forecast.counts),
        "queries": dict(estimate.queries),
        **{name: getattr(estimate, name) for name in PARTS},
        "confidence": forecast.confidence,
        "expected_speedup_ci95": expected_interval(pilot.ratios, estimate.pairs),
    }


def _json(plan: RunPlan) -> str:
    spec, primary = plan.spec, plan.selection.primary
    workloads = [
        {
            "workload": each.name,
            "load_s": each.load_s,
            "quantize_s": each.quantize_s,
            "pack_and_probe_s": each.pack_s,
            "notes": list(each.notes),
            "scenarios": [_run_json(plan, each, run) for run in each.scenarios],
        }
        for each in plan.workloads
    ]
    page = {
        "plan": CAVEAT,
        "device": plan.device.name,
        "executed_on": plan.device.executed_on,
        "threads": plan.threads,
        "track": spec.track,
        "profile": spec.profile,
        "transform": str(spec.transform),
        "stamps": list(plan.stamps),
        "meter": None if primary is None else f"{primary.meter} {primary.domain}",
        "meter_reason": plan.selection.reason or None,
        "budget_s": spec.budget_s,
        "total_s": plan.total_s,
        "workloads": workloads,
    }
    return json.dumps(page, indent=2, allow_nan=False)


FORMATS: Mapping[str, Callable[[RunPlan], str]] = {"md": _markdown, "json": _json}
