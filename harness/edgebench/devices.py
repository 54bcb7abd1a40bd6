"""The catalog of devices: what each is made of, and the peaks derived from that.

A row stores streaming multiprocessors, clock, operations per clock per multiprocessor and memory
bandwidth, each with its source; dense peaks are derived, never copied, because published peaks mix
sparse, dense and whole-module figures. What no source states is None. Data-sheet numbers were read
in public mirrors of NVIDIA's PDFs; `verified=False` marks a number read second-hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from edgebench import machine
from edgebench.errors import DeviceUnavailable, unknown_name

T = TypeVar("T", int, float)
Backend = Literal["cpu", "cuda"]

AUTO = "auto"
CHECKED_GPUS: tuple[str, ...] = ("h200",)  # `auto` takes these: kernels/perf/gpu_check.py passed
GPU_KERNELS = "GPU kernels on "

MEASURED = "no catalog: its ceilings are measured in the run"
AGX_SHEET = "NVIDIA Jetson AGX Orin Series Modules Data Sheet DS-10662-001 v1.8"
NX_SHEET = "NVIDIA Jetson Orin NX Series Data Sheet DS-10712-001 v1.0"
NANO_SHEET = "NVIDIA Jetson Orin Nano Series Data Sheet DS-11105-001 v1.1"
THOR_FORUM = "https://forums.developer.nvidia.com/t/356355 (read from the driver: 20 SMs)"
THOR_CARD = "https://huggingface.co/hardware/jetson-t5000"
A100_QUERY = "https://gist.github.com/gengwg/3520df2ebf8872e5ee4818367e3a4122 (deviceQuery)"
HOPPER_NOTES = "https://glennklockwood.com/garden/processors/h100"
L4_TABLE = "https://www.topcpu.net/en/gpu-c/l40-vs-l4"
ADA_BOOK = "NVIDIA Ada GPU Architecture whitepaper"
ADA_4090 = "https://gist.github.com/mikasenghaas/d63ded03f1f0417b1677627119bacc0d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited(Generic[T]):
    """A number with where it was read."""

    value: T
    source: str
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRate:
    """Dense tensor-core operations per clock per multiprocessor; a multiply-add counts as 2."""

    fp16: int
    """With fp32 accumulation."""
    int8: int
    source: str


GA10B = TensorRate(fp16=2048, int8=4096, source=f"{AGX_SHEET} p.7: 170 sparse INT8 TOPS")
GA100 = TensorRate(fp16=2048, int8=4096, source="Lightning 2.5 fabric/utilities/throughput.py")
GH100 = TensorRate(fp16=4096, int8=8192, source=f"{HOPPER_NOTES}: 989.4 and 1978.9 dense")
AD104 = TensorRate(fp16=1024, int8=2048, source="PyTorch device_info.py: 242 and 485 sparse")
AD102 = TensorRate(fp16=512, int8=2048, source=f"{ADA_4090}: 165 TFLOPS; INT8 661 dense")
GB10B = TensorRate(fp16=8192, int8=16384, source=f"{THOR_CARD}: 258.5 TFLOPS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One row: a device that `--device` names."""

    title: str
    backend: Backend
    source: str
    board: str | None = None
    """Part of the device-tree model that every board of this family shows."""
    parts: tuple[str, ...] = ()
    """Module part numbers in the device tree's compatible strings."""
    gpus: tuple[str, ...] = ()
    """The exact names that NVIDIA's driver gives the GPU; its PCIe and NVL sisters differ."""
    multiprocessors: Cited[int] | None = None
    clock_GHz: Cited[float] | None = None
    rate: TensorRate | None = None
    bandwidth_GBps: Cited[float] | None = None

    @property
    def fp16_ops_per_s(self) -> float | None:
        """Dense fp16 tensor peak at the catalog's clock, fp32 accumulation."""
        return self._peak(self.rate.fp16) if self.rate else None

    @property
    def int8_ops_per_s(self) -> float | None:
        """Dense int8 tensor peak at the catalog's clock."""
        return self._peak(self.rate.int8) if self.rate else None

    def _peak(self, ops_per_clock: int) -> float | None:
        if self.multiprocessors is None or self.clock_GHz is None:
            return None
        return self.multiprocessors.value * self.clock_GHz.value * 1e9 * ops_per_clock


# Part numbers: NVIDIA's board support package, tegra234-p3701-*.dtb and tegra234-p3767-*.dtb.
DEVICES: dict[str, Device] = {
    "cpu": Device(title="This machine's CPU", backend="cpu", source=MEASURED),
    "cuda": Device(title="Any NVIDIA GPU", backend="cuda", source=MEASURED),
    "orin": Device(
        title="NVIDIA Jetson AGX Orin 64GB",
        backend="cuda",
        source=AGX_SHEET,
        board="AGX Orin",
        parts=("p3701-0005", "p3701-0000"),  # -0000: the first developer kit, same GPU, 32 GB
        multiprocessors=Cited(value=16, source=f"{AGX_SHEET} p.7: 8 TPCs, 2048 cores"),
        clock_GHz=Cited(value=1.3, source=f"{AGX_SHEET} p.7"),
        rate=GA10B,
        bandwidth_GBps=Cited(value=204.8, source=f"{AGX_SHEET} p.12"),
    ),
    "orin-32gb": Device(
        title="NVIDIA Jetson AGX Orin 32GB",
        backend="cuda",
        source=AGX_SHEET,
        board="AGX Orin",
        parts=("p3701-0004",),
        multiprocessors=Cited(value=14, source=f"{AGX_SHEET} p.7: 7 TPCs, 1792 cores"),
        clock_GHz=Cited(value=0.939, source=f"{AGX_SHEET} p.7"),
        rate=GA10B,
        bandwidth_GBps=Cited(value=204.8, source=f"{AGX_SHEET} p.12"),
    ),
    "orin-nx": Device(
        title="NVIDIA Jetson Orin NX 16GB",
        backend="cuda",
        source=NX_SHEET,
        board="Orin NX",
        parts=("p3767-0000",),
        multiprocessors=Cited(value=8, source=f"{NX_SHEET} p.1: 1024 cores"),
        clock_GHz=Cited(value=0.918, source=f"{NX_SHEET} p.1"),
        rate=GA10B,
        bandwidth_GBps=Cited(value=102.0, source=f"{NX_SHEET} p.9"),
    ),
    "orin-nx-8gb": Device(
        title="NVIDIA Jetson Orin NX 8GB",
        backend="cuda",
        source=NX_SHEET,
        board="Orin NX",
        parts=("p3767-0001",),
        multiprocessors=Cited(value=8, source=f"{NX_SHEET} p.1: 1024 cores"),
        clock_GHz=Cited(value=0.765, source=f"{NX_SHEET} p.1"),
        rate=GA10B,
        bandwidth_GBps=Cited(value=102.0, source=f"{NX_SHEET} p.9"),
    ),
    "orin-nano": Device(
        title="NVIDIA Jetson Orin Nano 8GB",
        backend="cuda",
        source=NANO_SHEET,
        board="Orin Nano",
        parts=("p3767-0003", "p3767-0005"),  # -0005: the developer kit's module
        multiprocessors=Cited(value=8, source=f"{NANO_SHEET} p.1: 1024 cores"),
        clock_GHz=Cited(value=0.625, source=f"{NANO_SHEET} p.1"),
        rate=GA10B,
        bandwidth_GBps=Cited(value=68.0, source=f"{NANO_SHEET} p.7"),
    ),
    "orin-nano-4gb": Device(
        title="NVIDIA Jetson Orin Nano 4GB",
        backend="cuda",
        source=NANO_SHEET,
        board="Orin Nano",
        parts=("p3767-0004",),
        multiprocessors=Cited(value=4, source=f"{NANO_SHEET} p.1: 512 cores"),
        clock_GHz=Cited(value=0.625, source=f"{NANO_SHEET} p.1"),
        rate=GA10B,
        bandwidth_GBps=Cited(value=34.0, source=f"{NANO_SHEET} p.7"),
    ),
    "thor": Device(
        title="NVIDIA Jetson AGX Thor (T5000)",
        backend="cuda",
        source=THOR_FORUM,
        board="AGX Thor",
        parts=("p3834-0008",),
        multiprocessors=Cited(value=20, source=THOR_FORUM),
        clock_GHz=Cited(value=1.575, source="20 SMs reach 2070 sparse FP4 TFLOPS", verified=False),
        rate=GB10B,
        bandwidth_GBps=None,
    ),
    "a100": Device(
        title="NVIDIA A100 SXM 80GB",
        backend="cuda",
        source=A100_QUERY,
        gpus=("NVIDIA A100-SXM4-80GB",),
        multiprocessors=Cited(value=108, source=A100_QUERY),
        clock_GHz=Cited(value=1.41, source=A100_QUERY),
        rate=GA100,
        bandwidth_GBps=Cited(value=2039.0, source=f"{A100_QUERY}: 1593 MHz x 2 x 5120 bit"),
    ),
    "h100": Device(
        title="NVIDIA H100 SXM",
        backend="cuda",
        source=HOPPER_NOTES,
        gpus=("NVIDIA H100 80GB HBM3",),
        multiprocessors=Cited(value=132, source=HOPPER_NOTES),
        clock_GHz=Cited(value=1.83, source=f"{HOPPER_NOTES} (low precision)"),
        rate=GH100,
        bandwidth_GBps=Cited(value=3352.0, source="doi:10.1016/j.ultsonch.2023.106546 table 3"),
    ),
    "h200": Device(
        title="NVIDIA H200 SXM",
        backend="cuda",
        source=HOPPER_NOTES,
        gpus=("NVIDIA H200",),
        multiprocessors=Cited(value=132, source=f"{HOPPER_NOTES}: the GPU of the H100 SXM"),
        clock_GHz=Cited(value=1.83, source=f"{HOPPER_NOTES} (low precision)"),
        rate=GH100,
        bandwidth_GBps=Cited(value=4800.0, source="NVIDIA H200 data sheet", verified=False),
    ),
    "l4": Device(
        title="NVIDIA L4",
        backend="cuda",
        source=L4_TABLE,
        gpus=("NVIDIA L4",),
        multiprocessors=Cited(value=58, source=f"{L4_TABLE}: 7424 cores"),
        clock_GHz=Cited(value=2.04, source=L4_TABLE),
        rate=AD104,
        bandwidth_GBps=Cited(value=300.0, source=L4_TABLE),
    ),
    "rtx4090": Device(
        title="NVIDIA GeForce RTX 4090",
        backend="cuda",
        source=ADA_4090,
        gpus=("NVIDIA GeForce RTX 4090",),
        multiprocessors=Cited(value=128, source=ADA_BOOK, verified=False),
        clock_GHz=Cited(value=2.52, source=ADA_BOOK, verified=False),
        rate=AD102,
        bandwidth_GBps=Cited(value=1008.0, source=ADA_4090),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedDevice:
    """A requested device, checked against what this machine is."""

    requested: str
    name: str
    backend: Backend
    """Where the kernels execute, which decides what a meter has to cover."""
    executed_on: str
    notes: tuple[str, ...] = ()


def resolve(requested: str, root: Path = machine.ROOT) -> ResolvedDevice:
    """Check a requested device against this machine; `auto` picks one that kernels exist for.

    `auto` picks the Jetson that the machine is, else a GPU of CHECKED_GPUS, else the CPU.
    Raises SpecError for an unknown name and DeviceUnavailable for a device that is not here.
    """
    if requested != AUTO and requested not in DEVICES:
        raise unknown_name("--device", "device", requested, (AUTO, *DEVICES))
    found = machine.inspect(root)
    name = _pick(found) if requested == AUTO else requested
    device = DEVICES[name]
    notes = _verify(name, device, found)
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


def is_on_gpu(executed_on: str) -> bool:
    """Whether a record's `executed_on` speaks of kernels on a GPU."""
    return executed_on.startswith(GPU_KERNELS)


def identify(found: machine.Machine) -> str | None:
    """Name the catalog row that this machine certainly is, by part number or exact GPU name."""
    for name, device in DEVICES.items():
        if any(part in entry for part in device.parts for entry in found.compatible):
            return name
        if any(gpu in found.nvidia_gpus for gpu in device.gpus):
            return name
    return None


def _pick(found: machine.Machine) -> str:
    identified = identify(found)
    if identified is not None and DEVICES[identified].parts:
        return identified
    return identified if identified in CHECKED_GPUS else "cpu"


def _verify(name: str, device: Device, found: machine.Machine) -> list[str]:
    """Refuse a device that this machine is not; return what could not be checked to the end."""
    if name == "cpu" or (name == "cuda" and (found.nvidia_gpus or found.is_jetson)):
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
