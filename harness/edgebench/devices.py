"""A requested device, checked against what this machine is; the catalog is in `device_catalog`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgebench import machine
from edgebench.device_catalog import DEVICES, Backend, Cited, Device, Peaks, TensorRate
from edgebench.errors import DeviceUnavailable, unknown_name

__all__ = [
    "AUTO",
    "CHECKED_GPUS",
    "DEVICES",
    "GPU_KERNELS",
    "Backend",
    "Cited",
    "Device",
    "Peaks",
    "ResolvedDevice",
    "TensorRate",
    "identify",
    "is_on_gpu",
    "require_multiprocessors",
    "resolve",
]

AUTO = "auto"
CHECKED_GPUS: tuple[str, ...] = ("h200",)  # `auto` takes these: kernels/perf/gpu_check.py passed
GPU_KERNELS = "GPU kernels on "


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedDevice:
    """A requested device, checked against what this machine is."""

    requested: str
    name: str
    backend: Backend
    """Where the kernels execute, which decides what a meter has to cover."""
    executed_on: str
    notes: tuple[str, ...] = ()
    simulated: bool = False
    """Whether a tree of files stood for the machine; kernels then run on the CPU that there is."""


def resolve(
    requested: str, root: Path = machine.ROOT, *, simulated: bool = False
) -> ResolvedDevice:
    """Check a requested device against this machine; `auto` picks one that kernels exist for.

    `auto` picks the Jetson that the machine is, else a GPU of CHECKED_GPUS, else the CPU.
    `simulated`: the root is another machine's, so kernels execute on this one's CPU.
    Raises SpecError for an unknown name and DeviceUnavailable for a device that is not here.
    """
    if requested != AUTO and requested not in DEVICES:
        raise unknown_name("--device", "device", requested, (AUTO, *DEVICES))
    found = machine.inspect(root)
    name = _pick(found) if requested == AUTO else requested
    device = DEVICES[name]
    notes = _verify(name, device, found)
    if simulated:
        return _simulated(requested, name, notes)
    backend = device.backend if requested != AUTO or name in CHECKED_GPUS else "cpu"
    executed_on = f"CPU kernels on {found.cpu_model}"
    if backend == "cuda":
        executed_on = GPU_KERNELS + next(iter(found.nvidia_gpus), device.title)
    elif backend != device.backend:
        executed_on += f": the GPU of {device.title} has to be asked for by name"
    elif found.nvidia_gpus and backend == "cpu":
        notes.append(f"{found.nvidia_gpus[0]} is present and was not used")
    return ResolvedDevice(
        requested=requested, name=name, backend=backend, executed_on=executed_on, notes=tuple(notes)
    )


def _simulated(requested: str, name: str, notes: list[str]) -> ResolvedDevice:
    """A device that a tree of files stands for: its meters are read, its kernels are not run."""
    here = machine.cpu_model()
    text = f"SIMULATED: {DEVICES[name].title} is a tree of files, its readings are not of this run"
    return ResolvedDevice(
        requested=requested,
        name=name,
        backend="cpu",
        executed_on=f"CPU kernels on {here}, for a simulated {DEVICES[name].title}",
        notes=(*notes, text),
        simulated=True,
    )


def is_on_gpu(executed_on: str) -> bool:
    """Whether a record's `executed_on` speaks of kernels on a GPU."""
    return executed_on.startswith(GPU_KERNELS)


def identify(found: machine.Machine) -> str | None:
    """Name the catalog row that this machine certainly is, by part number or exact name."""
    for name, device in DEVICES.items():
        if any(part in entry for part in device.parts for entry in found.compatible):
            return name
        if any(gpu in found.nvidia_gpus for gpu in device.gpus):
            return name
    return next((n for n, row in DEVICES.items() if found.cpu_model in row.cpus), None)


def require_multiprocessors(name: str, counted: int | None) -> None:
    """Hold the multiprocessors that CUDA counts against the catalog row of a device.

    Boards of one family give their GPU the same name and differ in this. Nothing else is asked of
    CUDA's properties: on a Jetson they show a bus width and a memory clock that it does not have.
    Raises DeviceUnavailable with the row that the count belongs to.
    """
    expected = DEVICES[name].multiprocessors
    if expected is None or counted is None or counted == expected.value:
        return
    rows = DEVICES.items()
    fitting = [n for n, row in rows if row.board == DEVICES[name].board and row.multiprocessors]
    named = [n for n in fitting if _multiprocessors(n) == counted]
    raise DeviceUnavailable(
        f"[--device] expected {DEVICES[name].title} with {expected.value} multiprocessors, CUDA "
        f"counts {counted}; use --device {next(iter(named), 'cuda')}, or leave MIG off"
    )


def _multiprocessors(name: str) -> int | None:
    counted = DEVICES[name].multiprocessors
    return None if counted is None else counted.value


def _pick(found: machine.Machine) -> str:
    identified = identify(found)
    if identified is not None and DEVICES[identified].parts:
        return identified
    return identified if identified in CHECKED_GPUS else "cpu"


def _verify(name: str, device: Device, found: machine.Machine) -> list[str]:
    """Refuse a device that this machine is not; return what could not be checked to the end."""
    if name == "cpu" or (name == "cuda" and (found.nvidia_gpus or found.is_jetson)):
        return []
    if device.architecture is not None and device.architecture == found.architecture:
        return []
    identified = identify(found)
    if name != "cuda" and identified == name:
        return []
    if identified is None and device.board and device.board in (found.board or ""):
        return [
            f"module part number unknown: taken for {device.title} by its board {found.board!r}"
        ]
    raise DeviceUnavailable(
        f"[--device] expected {device.title}, found {found.describe()}; use --device "
        f"{identified or 'cpu'}, or run on that device"
    )
