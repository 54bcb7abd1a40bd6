"""The catalog of devices: what each is made of, and the peaks derived from that.

A row stores streaming multiprocessors (or cores), clock, operations per clock of each and memory
bandwidth, each with its source; dense peaks are derived, never copied, because published peaks mix
sparse, dense and whole-module figures. What no source states is None. Data-sheet numbers were read
in public mirrors of NVIDIA's PDFs; `verified=False` marks a number read second-hand, or known and
not read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

T = TypeVar("T", int, float)
Backend = Literal["cpu", "cuda"]

MEASURED = "no catalog: its ceilings are measured in the run"
AGX_SHEET = "NVIDIA Jetson AGX Orin Series Modules Data Sheet DS-10662-001 v1.8"
NX_SHEET = "NVIDIA Jetson Orin NX Series Data Sheet DS-10712-001 v1.0"
NANO_SHEET = "NVIDIA Jetson Orin Nano Series Data Sheet DS-11105-001 v1.1"
THOR_FORUM = "https://forums.developer.nvidia.com/t/356355 (read from the driver: 20 SMs)"
THOR_CARD = "https://huggingface.co/hardware/jetson-t5000"
THOR_WIKI = "RidgeRun wiki, NVIDIA Jetson AGX Thor, SoM Overview, table 1"
SUPER_GUIDE = "ARK Electronics, Jetson Orin NX/Nano super-mode guide"
A100_QUERY = "https://gist.github.com/gengwg/3520df2ebf8872e5ee4818367e3a4122 (deviceQuery)"
HOPPER_NOTES = "https://glennklockwood.com/garden/processors/h100"
L4_TABLE = "https://www.topcpu.net/en/gpu-c/l40-vs-l4"
ADA_BOOK = "NVIDIA Ada GPU Architecture whitepaper"
LAPTOP_4070 = "https://data-check.eu/en/nvidia-geforce-rtx-4070-laptop-gpu/"
PI5_NOTES = "Zephyr project, boards/raspberrypi/rpi_5 (4 x Cortex-A76, 2.4 GHz)"
APPLE_PRESS = "MacRumors and MacTrast, M4 family, from Apple's press releases"
APPLE_KNOWN = "Apple's press release of the chip; known, not read"
ADA_4090 = "https://gist.github.com/mikasenghaas/d63ded03f1f0417b1677627119bacc0d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited(Generic[T]):
    """A number with where it was read."""

    value: T
    source: str
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRate:
    """Dense operations per clock of one multiprocessor or core; a multiply-add counts as 2."""

    fp16: int
    """Of a GPU's tensor cores, with fp32 accumulation."""
    int8: int
    source: str
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Dense peaks at one clock."""

    clock_GHz: float
    fp16_ops_per_s: float
    int8_ops_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperMode:
    """What a module reaches in NVIDIA's MAXN_SUPER power mode."""

    clock_GHz: Cited[float]
    bandwidth_GBps: Cited[float] | None = None
    """None: the memory's clock stays."""


GA10B = TensorRate(fp16=2048, int8=4096, source=f"{AGX_SHEET} p.7: 170 sparse INT8 TOPS")
GA100 = TensorRate(fp16=2048, int8=4096, source="Lightning 2.5 fabric/utilities/throughput.py")
GH100 = TensorRate(fp16=4096, int8=8192, source=f"{HOPPER_NOTES}: 989.4 and 1978.9 dense")
AD104 = TensorRate(fp16=1024, int8=2048, source="PyTorch device_info.py: 242 and 485 sparse")
AD106 = TensorRate(fp16=512, int8=2048, source="hmc-tech.com, 4070 Laptop 60W: 29.86 at 1.62 GHz")
AD102 = TensorRate(fp16=512, int8=2048, source=f"{ADA_4090}: 165 TFLOPS; INT8 661 dense")
A76 = TensorRate(
    fp16=32,
    int8=64,
    source="Cortex-A76: two 128-bit pipes, FMLA and SDOT; calculated",
    verified=False,
)
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
    super_mode: SuperMode | None = None
    cpus: tuple[str, ...] = ()
    """The exact names that the system gives the CPU."""
    architecture: str | None = None
    """Of a row that stands for any CPU of an instruction set."""

    @property
    def fp16_ops_per_s(self) -> float | None:
        """Dense fp16 tensor peak at the catalog's clock, fp32 accumulation."""
        peaks = self.peaks_at()
        return peaks.fp16_ops_per_s if peaks else None

    @property
    def int8_ops_per_s(self) -> float | None:
        """Dense int8 tensor peak at the catalog's clock."""
        peaks = self.peaks_at()
        return peaks.int8_ops_per_s if peaks else None

    def in_super_mode(self) -> Device | None:
        """This row as MAXN_SUPER runs it; None where there is no such mode."""
        if self.super_mode is None:
            return None
        return replace(
            self,
            title=f"{self.title}, MAXN_SUPER",
            clock_GHz=self.super_mode.clock_GHz,
            bandwidth_GBps=self.super_mode.bandwidth_GBps or self.bandwidth_GBps,
        )

    def peaks_at(self, clock_GHz: float | None = None) -> Peaks | None:
        """Dense peaks at an observed clock, else at the catalog's; None where it has no rate."""
        clock = clock_GHz or (self.clock_GHz.value if self.clock_GHz else None)
        if self.multiprocessors is None or self.rate is None or clock is None:
            return None
        cycles_per_s = self.multiprocessors.value * clock * 1e9
        return Peaks(
            clock_GHz=clock,
            fp16_ops_per_s=cycles_per_s * self.rate.fp16,
            int8_ops_per_s=cycles_per_s * self.rate.int8,
        )


def _apple(title: str, bandwidth_GBps: float, *, is_read: bool = False) -> Device:
    """A chip whose GPU peaks Apple does not publish; `is_read`: the bandwidth's source was."""
    source = APPLE_PRESS if is_read else APPLE_KNOWN
    return Device(
        title=title,
        backend="cpu",
        source=source,
        cpus=(title,),
        bandwidth_GBps=Cited(value=bandwidth_GBps, source=source, verified=is_read),
    )


# Part numbers: NVIDIA's board support package, tegra234-p3701-*.dtb and tegra234-p3767-*.dtb.
DEVICES: dict[str, Device] = {
    "cpu": Device(title="This machine's CPU", backend="cpu", source=MEASURED),
    "x86-64": Device(
        title="A 64-bit x86 CPU", backend="cpu", source=MEASURED, architecture="x86-64"
    ),
    "aarch64": Device(
        title="A 64-bit Arm CPU", backend="cpu", source=MEASURED, architecture="aarch64"
    ),
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
        super_mode=SuperMode(clock_GHz=Cited(value=1.173, source=SUPER_GUIDE)),
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
        super_mode=SuperMode(clock_GHz=Cited(value=1.173, source=SUPER_GUIDE)),
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
        super_mode=SuperMode(
            clock_GHz=Cited(value=1.02, source="Jetson Orin Nano Super data sheet"),
            bandwidth_GBps=Cited(value=102.0, source="Orin Nano Super notes", verified=False),
        ),
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
        super_mode=SuperMode(
            clock_GHz=Cited(value=1.02, source="Jetson Orin Nano Super data sheet"),
            bandwidth_GBps=Cited(value=51.0, source="Orin Nano Super notes", verified=False),
        ),
    ),
    "thor": Device(
        title="NVIDIA Jetson AGX Thor (T5000)",
        backend="cuda",
        source=THOR_FORUM,
        board="AGX Thor",
        parts=("p3834-0008",),
        multiprocessors=Cited(value=20, source=THOR_FORUM),
        clock_GHz=Cited(value=1.575, source=THOR_WIKI),
        rate=GB10B,
        bandwidth_GBps=Cited(value=273.0, source=THOR_WIKI),
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
    "rtx4070-laptop": Device(
        title="NVIDIA GeForce RTX 4070 Laptop GPU",
        backend="cuda",
        source=LAPTOP_4070,
        gpus=("NVIDIA GeForce RTX 4070 Laptop GPU",),
        multiprocessors=Cited(value=36, source=f"{LAPTOP_4070}: 4608 cores"),
        clock_GHz=Cited(value=2.175, source=f"{LAPTOP_4070}: at 115 W; 1.23 at 35 W"),
        rate=AD106,
        bandwidth_GBps=Cited(value=256.0, source=f"{LAPTOP_4070}: 128 bit x 16 Gbps"),
    ),
    "raspberry-pi-5": Device(
        title="Raspberry Pi 5",
        backend="cpu",
        source=PI5_NOTES,
        board="Raspberry Pi 5",
        parts=("raspberrypi,5-model-b",),
        multiprocessors=Cited(value=4, source=PI5_NOTES),
        clock_GHz=Cited(value=2.4, source=PI5_NOTES),
        rate=A76,
        bandwidth_GBps=Cited(value=17.1, source="LPDDR4X-4267 x 32 bit", verified=False),
    ),
    "apple-m1": _apple("Apple M1", 68.0),
    "apple-m1-pro": _apple("Apple M1 Pro", 200.0),
    "apple-m1-max": _apple("Apple M1 Max", 400.0),
    "apple-m2": _apple("Apple M2", 100.0),
    "apple-m2-pro": _apple("Apple M2 Pro", 200.0),
    "apple-m2-max": _apple("Apple M2 Max", 400.0),
    "apple-m3": _apple("Apple M3", 100.0),
    "apple-m3-pro": _apple("Apple M3 Pro", 150.0),
    "apple-m4": _apple("Apple M4", 120.0, is_read=True),
    "apple-m4-pro": _apple("Apple M4 Pro", 273.0, is_read=True),
    "apple-m4-max": _apple("Apple M4 Max", 546.0, is_read=True),
}
