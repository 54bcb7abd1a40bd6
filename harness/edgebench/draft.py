"""Draft records: everything that a record says before and after, but not by, measuring."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from edgebench import __version__
from edgebench.codec import parse_model, read_capped
from edgebench.devices import ResolvedDevice
from edgebench.errors import BundleError
from edgebench.layout import PROGRESS, RECORD, SIZE_LIMITS
from edgebench.machine import find_root
from edgebench.meters import EVERY
from edgebench.openai.engine import model_name
from edgebench.profiles import SAMPLE_INDEX_SEED, SCHEDULE_SEED, stamps_of
from edgebench.record import (
    ExternalServer,
    Host,
    KernelTuning,
    Provenance,
    Record,
    Scenario,
    Seeds,
    WorkloadIdentity,
)
from edgebench.spec import RunSpec
from edgebench.system import SystemDescription, system_name
from edgebench.utc import utc_now


def new_run_id() -> str:
    """Return an id that sorts by time and that two machines will not share."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}"


def resumable_run_id(spec: RunSpec) -> str | None:
    """Return the id of the newest run with an unfinished bundle, else of the newest run."""
    folder = spec.out / spec.track / spec.organisation / system_name(find_root())
    unfinished = sorted(path.parent.name for path in folder.glob(f"*/*/*/{PROGRESS}"))
    finished = sorted(path.name for path in folder.glob("*/*/*") if path.is_dir())
    newest = unfinished or finished
    return newest[-1] if newest else None


def begun_tuning(spec: RunSpec, run_id: str, threads: int) -> KernelTuning | None:
    """Return how the kernels were tuned when this run began: timing again could choose otherwise.

    None when no bundle of the run with these threads is there.
    """
    folder = spec.out / spec.track / spec.organisation / system_name(find_root())
    for path in sorted(folder.glob(f"*/*/{run_id}/{RECORD}")):
        try:
            data = read_capped(path, SIZE_LIMITS[RECORD])
            host = parse_model(Record, data, RECORD).host
        except (BundleError, OSError):
            continue  # its bundle cannot go on either
        if host.threads == threads:
            return host.kernel_tuning
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What all records of one run share."""

    run_id: str
    device: ResolvedDevice
    system: SystemDescription
    threads: int
    cache_bytes: int | None
    """The last-level cache of what the kernels execute on."""
    kernel_tuning: KernelTuning | None
    other_runs_seen: bool
    external: ExternalServer | None = None


def draft_record(
    spec: RunSpec,
    scenario: Scenario,
    identity: WorkloadIdentity,
    given: Circumstances,
    not_closed: Sequence[str] = (),
) -> Record:
    """Return the record of a scenario before its first measurement."""
    return Record(
        schema_version=1,
        run_id=given.run_id,
        complete=False,
        track=spec.track,
        organisation=spec.organisation,
        system=given.system.name,
        workload=identity,
        scenario=scenario,
        profile=spec.profile,
        stamps=list(
            stamps_of(
                spec.profile,
                is_external=spec.external is not None,
                is_simulated=given.device.simulated,
            )
        ),
        not_closed=list(not_closed),
        seeds=Seeds(sample_index=SAMPLE_INDEX_SEED, schedule=SCHEDULE_SEED),
        external=given.external,
        host=Host(
            device_requested=given.device.requested,
            device=given.device.name,
            executed_on=given.device.executed_on,
            last_level_cache_bytes=given.cache_bytes,
            threads=given.threads,
            affinity=None if spec.affinity is None else list(spec.affinity),
            kernel_tuning=given.kernel_tuning,
            simulated=given.device.simulated,
            other_runs_seen=given.other_runs_seen,
        ),
        ceilings=[],
        results=[],
        provenance=Provenance(
            tool_version=__version__,
            git_commit=given.system.software.git_commit,
            git_dirty=given.system.software.git_dirty,
            command=repeat_command(spec),
            started_utc=utc_now(),
        ),
    )


def finished_record(record: Record, *, other_runs_seen: bool) -> Record:
    """Add what is known only at the end."""
    return record.model_copy(
        update={
            "host": record.host.model_copy(update={"other_runs_seen": other_runs_seen}),
            "provenance": record.provenance.model_copy(update={"finished_utc": utc_now()}),
        }
    )


def repeat_command(spec: RunSpec) -> str:
    """Return the command that repeats a run, with every choice written out."""
    words = [
        "bench run",
        f"--track {spec.track}",
        f"--device {spec.device}",
        f"--workload {','.join(spec.workloads)}",
        *_own_model_words(spec),
        f"--scenario {','.join(spec.scenarios)}",
        f"--kernel {','.join(spec.kernels)}",
        *_system_words(spec),
        f"--profile {spec.profile}",
    ]
    if spec.meter != EVERY:
        words.append(f"--meter {shlex.quote(str(spec.meter))}")
    if spec.require_power:
        words.append("--require-power")
    if spec.threads is not None:
        words.append(f"--threads {spec.threads}")
    if spec.affinity is not None:
        words.append(f"--affinity {','.join(map(str, spec.affinity))}")
    return " ".join(words)


def _system_words(spec: RunSpec) -> list[str]:
    """What is measured beside the reference; another machine's address stays out of records."""
    request = spec.external
    if request is None:
        return [f"--transform {spec.transform}"]
    words = ["--sut openai", f"--url {request.address.shown}"]
    if request.served_model is not None:
        words.append(f"--served-model {shlex.quote(model_name(request.served_model))}")
    words.append(f"--concurrency {request.concurrency}")
    return words + ["--allow-remote"] * request.is_remote_allowed


def _own_model_words(spec: RunSpec) -> list[str]:
    """The options of `--workload llm`; folders stay out of records, so names stand for paths."""
    request = spec.own_model
    if request is None:
        return []
    return [
        f"--model {shlex.quote(request.name)}",
        f"--text {shlex.quote(request.text.name)}",
        f"--context {request.context}",
        f"--stride {request.stride}",
        *(f"--calibration {shlex.quote(path.name)}" for path in (request.calibration,) if path),
    ]
