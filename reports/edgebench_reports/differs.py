"""What differs between two runs: read before any ratio, because a ratio cannot say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from edgebench_reports.details import flatten
from edgebench_reports.sides import Run

TOPICS = ("hardware", "power mode", "versions", "model", "data", "profile", "host")
# Where a field of system.json belongs; what is not named here moves by itself (load, free memory).
HARDWARE = ("board", "cpu.model", "cpu.cores_online", "cpu.cores_usable", "cpu.isa",
            "cpu.last_level_cache_bytes", "cpu.threads_per_core", "memory.total_bytes")  # fmt: skip
POWER = ("cpu.governor", "cpu.frequency_min_MHz", "cpu.frequency_max_MHz", "cpu.turbo")
VERSIONS = ("tegra_release", "nvidia_driver", "cpu.microcode")
HOST = ("kernel.hypervisor", "kernel.container", "kernel.aslr", "memory.huge_pages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field whose value is not the same on both sides; '' is not known."""

    topic: str
    field: str
    baseline: str
    candidate: str


def differences(baseline: Run, candidate: Run) -> list[Difference]:
    """Return every difference that may explain a ratio, topic by topic."""
    sides = [dict(_facts(run)) for run in (baseline, candidate)]
    fields = sorted(
        sides[0].keys() | sides[1].keys(), key=lambda key: (TOPICS.index(key[0]), key[1])
    )
    return [
        Difference(topic=topic, field=field, baseline=one, candidate=other)
        for topic, field in fields
        if (one := sides[0].get((topic, field), "")) != (other := sides[1].get((topic, field), ""))
    ]


def same_machine(baseline: Run, candidate: Run) -> bool:
    """Whether nothing that is known of the hardware differs."""
    hardware = [
        {key: text for key, text in _facts(run) if key[0] == "hardware"}
        for run in (baseline, candidate)
    ]
    return hardware[0] == hardware[1]


def same_software(baseline: Run, candidate: Run) -> bool:
    """Whether both ran the same versions of everything, without uncommitted changes."""
    found = [
        {key: text for key, text in _facts(run) if key[0] == "versions"}
        for run in (baseline, candidate)
    ]
    dirty = any(run.record.provenance.git_dirty for run in (baseline, candidate))
    return found[0] == found[1] and not dirty


def _facts(run: Run) -> Iterator[tuple[tuple[str, str], str]]:
    record, known = run.record, dict(flatten(dict(run.system)))
    yield ("hardware", "system"), record.system
    yield ("hardware", "device"), record.host.device
    yield from _chosen("hardware", HARDWARE, known)
    for name, text in known.items():
        topic = "power mode" if name.endswith("power_limit_W") else "hardware"
        if name.startswith("gpus["):
            yield (topic, name), text
        elif name.startswith("software.packages."):
            yield ("versions", name.removeprefix("software.packages.")), text
        elif name.startswith("software.environment."):
            yield ("host", name.removeprefix("software.environment.")), text
    if run.power_mode:
        yield ("power mode", "mode"), run.power_mode
    yield from _chosen("power mode", POWER, known)
    yield from _chosen("versions", VERSIONS, known)
    yield from _chosen("host", HOST, known)
    yield from _of_record(run)


def _of_record(run: Run) -> Iterator[tuple[tuple[str, str], str]]:
    record = run.record
    commit = record.provenance.git_commit
    yield ("versions", "EdgeBench"), record.provenance.tool_version
    if commit:
        dirty = " with changes" if record.provenance.git_dirty else ""
        yield ("versions", "commit"), commit[:12] + dirty
    yield ("model", "reference weights"), record.workload.reference_sha256[:12]
    for result in record.results:
        yield ("model", f"{result.kernel} transform"), result.transform
        yield ("model", f"{result.kernel} executed"), result.executed_path
        yield ("model", f"{result.kernel} batch"), str(result.batch_size)
    yield ("data", "task"), record.workload.task_sha256[:12]
    yield ("data", "scored set"), record.workload.scored_sha256[:12]
    yield ("data", "calibration"), record.workload.calibration_sha256[:12]
    yield ("data", "seeds"), f"{record.seeds.sample_index}, {record.seeds.schedule}"
    yield ("profile", "profile"), " ".join((record.profile, *record.stamps))
    yield ("host", "threads"), str(record.host.threads)
    if record.host.affinity is not None:
        yield ("host", "affinity"), " ".join(map(str, record.host.affinity))
    if record.host.other_runs_seen:
        yield ("host", "disturbance"), "another run was seen"


def _chosen(
    topic: str, names: tuple[str, ...], known: Mapping[str, str]
) -> Iterator[tuple[tuple[str, str], str]]:
    yield from (((topic, name), known[name]) for name in names if name in known)


def json_of(difference: Difference) -> dict[str, JsonValue]:
    """Return a difference for other programs."""
    return {
        "topic": difference.topic,
        "field": difference.field,
        "baseline": difference.baseline or None,
        "candidate": difference.candidate or None,
    }
