"""`bench doctor`: every probe with its result, what is missing, and the command that fixes it.

It changes nothing itself: a clock or a power mode that a tool sets in silence is a number that
nobody can repeat.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edgebench import devices, machine, meters
from edgebench.conditions import HARMFUL, Snapshot, Watch
from edgebench.device_catalog import DEVICES
from edgebench.errors import EXIT_OK, DeviceUnavailable, unknown_name
from edgebench.meters.nvml import load_nvml
from edgebench.profiles import LOAD_PER_CORE
from edgebench.system import SystemDescription, describe_system
from edgebench.units import format_bytes, format_number, format_si

State = Literal["ok", "absent", "warning", "not ready"]
"""absent: what machines of another kind have."""
FREE_MEMORY_BYTES = 2 << 30  # ours: the embedded workloads and torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One thing that was looked at."""

    what: str
    state: State
    found: str
    fix: str = ""
    """A command, or what to do; empty where nothing is to be done."""


def examine(requested: str, root: Path | None = None) -> list[Probe]:
    """Look at everything; SpecError for a device that no catalog has."""
    root = machine.find_root() if root is None else root
    system = describe_system(root)
    probes = list(_device(requested, root))
    probes += _peaks(system)
    probes += _kernels()
    device = _resolved_or_cpu(requested, root)
    probes += _meters(device, root, is_jetson=system.jetson is not None)
    nvml = load_nvml(root)[0] if root == machine.ROOT else None
    snapshot = Watch(root, nvml=nvml).look()
    probes += _clocks(system, snapshot)
    probes += _quiet(system, snapshot)
    return probes


def exit_code(probes: Sequence[Probe]) -> int:
    """3 when something keeps this machine from the closed track."""
    blocked = any(probe.state == "not ready" for probe in probes)
    return DeviceUnavailable.exit_code if blocked else EXIT_OK


def doctor_command(requested: str, form: str) -> tuple[str, int]:
    """Return what `bench doctor` prints, and its exit code."""
    if form not in ("md", "json"):
        raise unknown_name("doctor", "format", form, ("md", "json"))
    probes = examine(requested)
    if form == "json":
        text = json.dumps([asdict(probe) for probe in probes], indent=2)
    else:
        text = "\n".join(_lines(probes))
    return text, exit_code(probes)


def _lines(probes: Sequence[Probe]) -> Iterator[str]:
    width = max(len(probe.what) for probe in probes)
    for probe in probes:
        yield f"{probe.state:9}  {probe.what:{width}}  {probe.found}"
        if probe.fix:
            yield f"{'':9}  {'':{width}}  -> {probe.fix}"
    blocked = [probe.what for probe in probes if probe.state == "not ready"]
    yield ""
    yield (
        f"not ready for the closed track: {', '.join(blocked)}"
        if blocked
        else ("ready for the closed track")
    )


def _device(requested: str, root: Path) -> Iterator[Probe]:
    try:
        resolved = devices.resolve(requested, root, simulated=machine.is_simulated(root))
    except DeviceUnavailable as err:
        text = str(err).partition("] ")[2]
        yield Probe(
            what="device", state="not ready", found=text, fix="name the device that is here"
        )
        return
    notes = "; ".join((resolved.executed_on, *resolved.notes))
    yield Probe(what="device", state="ok", found=f"{resolved.name}: {notes}")


def _resolved_or_cpu(requested: str, root: Path) -> devices.ResolvedDevice:
    try:
        return devices.resolve(requested, root, simulated=machine.is_simulated(root))
    except DeviceUnavailable:
        return devices.resolve("cpu", root)


def _peaks(system: SystemDescription) -> Iterator[Probe]:
    catalog = system.catalog
    if catalog is None:
        return
    parts = [f"{format_number(catalog.bandwidth_GBps)} GB/s"]
    if catalog.fp16_ops_per_s is not None:
        parts.append(f"{format_si(catalog.fp16_ops_per_s, 'FLOP/s')} fp16 dense")
    if catalog.allowed_fp16_ops_per_s is not None:
        allowed = format_si(catalog.allowed_fp16_ops_per_s, "FLOP/s")
        parts.append(f"{allowed} at the {catalog.allowed_clock_GHz:g} GHz allowed now")
    title = DEVICES[catalog.device].title
    yield Probe(what="catalog", state="ok", found=f"{title}: {', '.join(parts)}")


def _kernels() -> Iterator[Probe]:
    from edgebench_kernels import native

    try:
        found = f"native, {native.isa()}"
    except (native.NativeLibraryMissing, OSError) as err:
        fix = "pip install --force-reinstall edgebench, or build it: make"
        yield Probe(what="kernels", state="not ready", found=str(err), fix=fix)
        return
    yield Probe(what="kernels", state="ok", found=found)


def _meters(device: devices.ResolvedDevice, root: Path, *, is_jetson: bool) -> Iterator[Probe]:
    selection = meters.select(device, root=root)
    for item in selection.probed:
        probe = item.probe
        found = probe.reason
        is_elsewhere = probe.meter in meters.MODULE and not is_jetson
        state: State = "absent" if is_elsewhere else "warning"
        if probe.ok:
            state = "ok"
            is_primary = selection.primary is not None and selection.primary.meter == probe.meter
            what = "reported" if is_primary else "recorded"
            found = f"{what}: {probe.primary} ({probe.covers})"
            found += f"; {probe.reason}" if probe.reason else ""
        yield Probe(what=f"meter {probe.meter}", state=state, found=found)
    if selection.primary is None:
        fix = "energy will be unmeasured; see the meters above, or give --meter csv:FILE"
        yield Probe(what="energy", state="warning", found="no meter covers the kernels", fix=fix)
    for item in selection.probed:
        if isinstance(item.meter, meters.JtopMeter):
            item.meter.close()


def _clocks(system: SystemDescription, now: Snapshot) -> Iterator[Probe]:
    jetson = system.jetson
    if jetson is not None:
        mode = jetson.power_mode or "unknown"
        fix = "" if jetson.power_mode else "sudo nvpmodel -q, and choose one: sudo nvpmodel -m ID"
        yield Probe(what="power mode", state="ok" if not fix else "not ready", found=mode, fix=fix)
        if jetson.clocks_locked is not True:
            fix = "sudo jetson_clocks (optional: latency is steadier)"
            yield Probe(what="clocks", state="warning", found="not locked", fix=fix)
    harmful = HARMFUL.intersection(now.reasons or ())
    held = [*sorted(harmful), *now.cooling]
    if held:
        fix = "let it cool, check power supply and fan"
        yield Probe(what="throttling", state="not ready", found=", ".join(held), fix=fix)
    elif now.reasons is not None or now.temperatures_C:
        hottest = f"none; hottest sensor {format_number(now.hottest_C)} C"
        yield Probe(what="throttling", state="ok", found=hottest)
    if system.cpu.governor is None:
        found = system.unknown.get("cpu.governor", "unknown")
        yield Probe(what="governor", state="warning", found=found)
    elif system.cpu.governor != "performance":
        fix = "sudo cpupower frequency-set -g performance"
        yield Probe(what="governor", state="warning", found=system.cpu.governor, fix=fix)
    else:
        yield Probe(what="governor", state="ok", found=system.cpu.governor)


def _quiet(system: SystemDescription, now: Snapshot) -> Iterator[Probe]:
    if now.foreign_processes:
        found = f"{now.foreign_processes} other processes compute on the GPU"
        yield Probe(what="GPU", state="not ready", found=found, fix="nvidia-smi; end them")
    if now.load is not None:
        busy = now.load > LOAD_PER_CORE * system.cpu.cores_online
        found = f"{now.load:g} on {system.cpu.cores_online} cores"
        fix = "end what else runs" if busy else ""
        yield Probe(what="load", state="warning" if busy else "ok", found=found, fix=fix)
    free = system.memory.available_bytes
    if free is not None:
        short = free < FREE_MEMORY_BYTES
        yield Probe(
            what="memory", state="warning" if short else "ok", found=f"{format_bytes(free)} free"
        )
    if now.swap_used_bytes:
        found = f"{format_bytes(now.swap_used_bytes)} of swap in use"
        yield Probe(what="swap", state="warning", found=found, fix="sudo swapoff -a")
    around = [part for part in (system.kernel.container, system.kernel.hypervisor) if part]
    if around:
        found = f"inside {' in '.join(around)}: clocks, power and neighbours may be hidden"
        yield Probe(what="virtualised", state="warning", found=found)
