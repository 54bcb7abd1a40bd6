"""The details of a run: how to repeat it, what it ran on, its ceilings, its kernels' notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from edgebench.record import (
    Ceiling,
    Energy,
    ExternalServer,
    KernelResult,
    ModelCost,
    Record,
    kernel_title,
)
from edgebench.units import format_bytes, format_duration, format_number, format_si
from edgebench_reports.entries import Entry, Submission

Fact = tuple[str, str]

MAX_FACTS = 200  # a stranger's system.json may hold anything
VALUE_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelNote:
    """One kernel of a run, in words."""

    kernel: str
    facts: tuple[Fact, ...]
    invalid_reasons: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """One run, as the page describes it."""

    anchor: str
    title: str
    run_id: str
    stamps: tuple[str, ...]
    command: str
    facts: tuple[Fact, ...]
    ceilings: tuple[Fact, ...]
    kernels: tuple[KernelNote, ...]
    warnings: tuple[str, ...]
    system_facts: tuple[Fact, ...]


def describe_runs(entries: Sequence[Entry]) -> list[RunDetails]:
    """Return every run once, in the order of the entries."""
    runs = {entry.submission.anchor: entry.submission for entry in entries}
    return [describe_run(submission) for submission in runs.values()]


def describe_run(submission: Submission) -> RunDetails:
    """Return one run in words."""
    record = submission.record
    place = f"{record.track} / {record.organisation} / {record.system}"
    return RunDetails(
        anchor=submission.anchor,
        title=f"{record.workload.name} {record.scenario}, {place}",
        run_id=record.run_id,
        stamps=tuple(record.stamps),
        command=record.provenance.command,
        facts=tuple(_run_facts(record)),
        ceilings=tuple((_ceiling_name(c), _ceiling_text(c)) for c in record.ceilings),
        kernels=tuple(_kernel_note(result) for result in record.results),
        warnings=submission.warnings,
        system_facts=tuple(flatten(dict(submission.system)))[:MAX_FACTS],
    )


def _run_facts(record: Record) -> Iterator[Fact]:
    host, provenance = record.host, record.provenance
    asked = "" if host.device == host.device_requested else f" (asked for: {host.device_requested})"
    yield "executed on", host.executed_on
    yield "device", host.device + asked
    yield "threads", str(host.threads)
    if host.last_level_cache_bytes is not None:
        yield "last-level cache", format_bytes(host.last_level_cache_bytes)
    if host.other_runs_seen:
        yield "disturbance", "another EdgeBench run was seen on the machine"
    yield "profile", record.profile
    finished = f" to {provenance.finished_utc}" if provenance.finished_utc else ""
    yield "measured", provenance.started_utc + finished
    commit = provenance.git_commit
    state = " with uncommitted changes" if provenance.git_dirty else ""
    yield "EdgeBench", provenance.tool_version + (f", commit {commit}{state}" if commit else "")
    if record.external is not None:
        yield from _server_facts(record.external)
    yield from (("not closed", reason) for reason in record.not_closed)
    yield "reference weights", f"sha256 {record.workload.reference_sha256}"
    yield "scored set", f"sha256 {record.workload.scored_sha256}"


def _server_facts(server: ExternalServer) -> Iterator[Fact]:
    yield "external engine", server.software or "a server that does not name itself"
    yield "served", f"model {server.model} at {server.url}{server.endpoint}"
    yield "asked", f"prompts as {server.prompt_form}, {server.concurrency} at a time offline"
    yield from (("note", note) for note in server.notes)


def _ceiling_name(ceiling: Ceiling) -> str:
    return ceiling.ceiling.replace("_", " ")


def _ceiling_text(ceiling: Ceiling) -> str:
    unit = "B/s" if ceiling.ceiling == "read_bandwidth" else "op/s"
    value = format_si(ceiling.median, unit)
    return f"{value}, {ceiling.instruction}, median of {ceiling.repeats}"


def _kernel_note(result: KernelResult) -> KernelNote:
    return KernelNote(
        kernel=kernel_title(result.kernel),
        facts=tuple(_kernel_facts(result)),
        invalid_reasons=tuple(result.invalid_reasons),
        warnings=tuple(result.warnings),
    )


def _kernel_facts(result: KernelResult) -> Iterator[Fact]:
    yield "executed", result.executed_path
    yield "transform", result.transform
    measured = format_duration(result.duration_s)
    yield "measured", f"{result.samples} samples in {result.queries} queries, {measured}"
    yield "scored", f"{result.accuracy_samples} samples"
    if result.mean_output_tokens is not None:
        yield "mean answer", f"{format_number(result.mean_output_tokens)} tokens"
    yield "batch", str(result.batch_size)
    if result.weight_bytes is not None:
        yield "weights", format_bytes(result.weight_bytes)
    if result.cost is not None:
        yield from _cost_facts(result.cost)
    if result.peak_memory_bytes is not None:
        yield "peak memory", format_bytes(result.peak_memory_bytes)
    if result.roofline.reason:
        yield "roofline", result.roofline.reason
    yield "energy", _energy_text(result.energy)


def _cost_facts(cost: ModelCost) -> Iterator[Fact]:
    yield "parameters", format_number(cost.parameters)
    yield "multiply-accumulates", f"{format_number(cost.macs)} an image"
    yield "whole model", format_bytes(cost.model_bytes)
    peak = format_bytes(cost.peak_activation_bytes)
    yield "peak activations", f"{peak} (MCUNet's definition, one byte each)"


def _energy_text(energy: Energy) -> str:
    parts: list[str] = [energy.status]
    if energy.joules is not None:
        parts.append(f"{format_number(energy.joules)} J")
    if energy.mean_power_W is not None:
        parts.append(f"{format_number(energy.mean_power_W)} W on average")
    if energy.meter or energy.domain:
        parts.append(" ".join(filter(None, (energy.meter, energy.domain))))
    if energy.coverage is not None:
        parts.append(f"readings cover {100 * energy.coverage:.1f} %")
    if energy.reason:
        parts.append(energy.reason)
    return ", ".join(parts)


def flatten(value: JsonValue, prefix: str = "") -> Iterator[Fact]:
    """Yield the leaves of a JSON value as (dotted path, text); what is null is left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for number, inner in enumerate(value):
            yield from flatten(inner, f"{prefix}[{number}]")
    elif isinstance(value, list):
        yield _short(prefix), _short(" ".join(map(_leaf, value)))
    elif value is not None:
        yield _short(prefix), _short(_leaf(value))


def _leaf(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _short(text: str) -> str:
    return text if len(text) <= VALUE_CHARACTERS else text[:VALUE_CHARACTERS] + "…"
