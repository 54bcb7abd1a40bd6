"""The catalog of devices: what each is made of, and the peaks derived from that.

A row stores streaming multiprocessors (or cores), clock, operations per clock of each and memory
bandwidth, each with its source; dense peaks are derived, never copied, because published peaks mix
sparse, dense and whole-module figures. What no source states is None. Data-sheet numbers were read
in public mirrors of NVIDIA's PDFs; `verified=False` marks a number read second-hand, or known and
not read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Literal, NamedTuple, TypeVar

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
LAPTOP_4070 = "https://data-check.eu/en/nvidia-geforce-rtx-4070-laptop-gpu/"
PI5_NOTES = "Zephyr project, boards/raspberrypi/rpi_5 (4 x Cortex-A76, 2.4 GHz)"
APPLE_M4 = "MacRumors and MacTrast, M4 family, from Apple's press releases"
APPLE_M3 = "https://www.macrumors.com/2023/10/31/apple-m3-pro-less-memory-bandwidth/"
APPLE_M3_ULTRA = "TechPowerUp, Apple Unleashes New Mac Studio, March 2025"
APPLE_M2_ULTRA = "https://propakistani.pk/2023/06/06/ (M2 Ultra: twice the M2 Max)"
APPLE_M1_ULTRA = "Lifewire, March 2022, Apple's M1 Ultra chip (read in a copy)"
APPLE_M5 = "TechRadar on the M5, 2025; read in copies"
APPLE_M5_MAX = "thedailyscout.com on the M5 Max, 2026: up to"
APPLE_KNOWN = "Apple's press release of the chip; known, not read"
A100_40_QUERY = "Paderborn PC2, NVIDIA A100 40GB with NVLINK (deviceQuery)"
H200_NEWS = "geektopia.es, 13 November 2023: 6 x 1024 bit at 6.2 Gbit/s"
PI5_NEWS = "https://circuitdigest.com/news/the-new-raspberry-pi-5-is-here-faster-than-ever"
FPS_4090 = (
    "https://www.thefpsreview.com/gpu-family/nvidia-geforce-rtx-4090-gpu-family-specifications"
)
NANO_SUPER_NOTES = (
    "brojogopalsapui.com, Jetson Orin Nano Super (from NVIDIA's data sheet, Dec 2024)"
)
NANO_SUPER_SHEET = "Jetson Orin Nano Super data sheet"
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


class Orin(NamedTuple):
    """What tells the modules of one generation apart; everything else of their rows is the same."""

    model: str
    parts: tuple[str, ...]
    multiprocessors: int
    cores: str
    """The words of the data sheet that the multiprocessors follow from, 128 cores each."""
    clock_GHz: float
    bandwidth_GBps: float
    super_mode: SuperMode | None = None


class Sheet(NamedTuple):
    """A family's data sheet, and where it says what."""

    name: str
    module: str
    """The page of GPU and clock."""
    memory: str


def _super(clock_GHz: float, source: str, bandwidth: Cited[float] | None = None) -> SuperMode:
    return SuperMode(clock_GHz=Cited(value=clock_GHz, source=source), bandwidth_GBps=bandwidth)


SHEETS = {
    "AGX Orin": Sheet(AGX_SHEET, module="p.7", memory="p.12"),
    "Orin NX": Sheet(NX_SHEET, module="p.1", memory="p.9"),
    "Orin Nano": Sheet(NANO_SHEET, module="p.1", memory="p.7"),
}
NX_SUPER = _super(1.173, SUPER_GUIDE)
NANO_SUPER = _super(1.02, NANO_SUPER_SHEET, Cited(value=102.0, source=NANO_SUPER_NOTES))
NANO_4_SUPER = _super(
    1.02,
    NANO_SUPER_SHEET,
    Cited(value=51.0, source="half of the 8 GB module's bus", verified=False),
)
# p3701-0000 is the first AGX developer kit: same GPU, 32 GB. p3767-0005 is the Nano kit's module.
# Part numbers: NVIDIA's board support package, tegra234-p3701-*.dtb and tegra234-p3767-*.dtb.
# fmt: off
ORINS = {
    "orin":          Orin("AGX Orin 64GB", ("p3701-0005", "p3701-0000"),
                          16, "8 TPCs, 2048 cores", 1.3, 204.8),
    "orin-32gb":     Orin("AGX Orin 32GB", ("p3701-0004",),
                          14, "7 TPCs, 1792 cores", 0.939, 204.8),
    "orin-nx":       Orin("Orin NX 16GB", ("p3767-0000",), 8, "1024 cores", 0.918, 102.0, NX_SUPER),
    "orin-nx-8gb":   Orin("Orin NX 8GB", ("p3767-0001",), 8, "1024 cores", 0.765, 102.0, NX_SUPER),
    "orin-nano":     Orin("Orin Nano 8GB", ("p3767-0003", "p3767-0005"),
                          8, "1024 cores", 0.625, 68.0, NANO_SUPER),
    "orin-nano-4gb": Orin("Orin Nano 4GB", ("p3767-0004",),
                          4, "512 cores", 0.625, 34.0, NANO_4_SUPER),
}
# The bandwidth of a chip's largest configuration: the M3 Max of 30 GPU cores has 300 GB/s.
APPLES = {
    "apple-m1":       ("Apple M1", 68.0, APPLE_KNOWN),
    "apple-m1-pro":   ("Apple M1 Pro", 200.0, APPLE_M3),
    "apple-m1-max":   ("Apple M1 Max", 400.0, APPLE_KNOWN),
    "apple-m1-ultra": ("Apple M1 Ultra", 800.0, APPLE_M1_ULTRA),
    "apple-m2":       ("Apple M2", 100.0, APPLE_KNOWN),
    "apple-m2-pro":   ("Apple M2 Pro", 200.0, APPLE_M3),
    "apple-m2-max":   ("Apple M2 Max", 400.0, APPLE_M3),
    "apple-m2-ultra": ("Apple M2 Ultra", 800.0, APPLE_M2_ULTRA),
    "apple-m3":       ("Apple M3", 100.0, APPLE_KNOWN),
    "apple-m3-pro":   ("Apple M3 Pro", 150.0, APPLE_M3),
    "apple-m3-max":   ("Apple M3 Max", 400.0, APPLE_M3),
    "apple-m3-ultra": ("Apple M3 Ultra", 819.0, APPLE_M3_ULTRA),
    "apple-m4":       ("Apple M4", 120.0, APPLE_M4),
    "apple-m4-pro":   ("Apple M4 Pro", 273.0, APPLE_M4),
    "apple-m4-max":   ("Apple M4 Max", 546.0, APPLE_M4),
    "apple-m5":       ("Apple M5", 153.0, APPLE_M5),
    "apple-m5-max":   ("Apple M5 Max", 614.0, APPLE_M5_MAX),
}
# fmt: on
UNVERIFIED = (APPLE_KNOWN, APPLE_M5, APPLE_M5_MAX)


def _orin(row: Orin) -> Device:
    """A module's row, with the page of its family's sheet beside each number."""
    family = row.model.rpartition(" ")[0]
    sheet = SHEETS[family]
    module = f"{sheet.name} {sheet.module}"
    return Device(
        title=f"NVIDIA Jetson {row.model}",
        backend="cuda",
        source=sheet.name,
        board=family,
        parts=row.parts,
        multiprocessors=Cited(value=row.multiprocessors, source=f"{module}: {row.cores}"),
        clock_GHz=Cited(value=row.clock_GHz, source=module),
        rate=GA10B,
        bandwidth_GBps=Cited(value=row.bandwidth_GBps, source=f"{sheet.name} {sheet.memory}"),
        super_mode=row.super_mode,
    )


def _apple(title: str, bandwidth_GBps: float, source: str) -> Device:
    """A chip whose GPU peaks Apple does not publish."""
    bandwidth = Cited(value=bandwidth_GBps, source=source, verified=source not in UNVERIFIED)
    return Device(
        title=title, backend="cpu", source=source, cpus=(title,), bandwidth_GBps=bandwidth
    )


def _a100(memory: str, bandwidth: Cited[float], source: str) -> Device:
    return Device(
        title=f"NVIDIA A100 SXM {memory}",
        backend="cuda",
        source=source,
        gpus=(f"NVIDIA A100-SXM4-{memory}",),
        multiprocessors=Cited(value=108, source=source),
        clock_GHz=Cited(value=1.41, source=source),
        rate=GA100,
        bandwidth_GBps=bandwidth,
    )


DEVICES: dict[str, Device] = {
    "cpu": Device(title="This machine's CPU", backend="cpu", source=MEASURED),
    "x86-64": Device(
        title="A 64-bit x86 CPU", backend="cpu", source=MEASURED, architecture="x86-64"
    ),
    "aarch64": Device(
        title="A 64-bit Arm CPU", backend="cpu", source=MEASURED, architecture="aarch64"
    ),
    "cuda": Device(title="Any NVIDIA GPU", backend="cuda", source=MEASURED),
    **{name: _orin(row) for name, row in ORINS.items()},
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
    "a100": _a100(
        "80GB",
        Cited(value=2039.0, source=f"{A100_QUERY}: 1593 MHz x 2 x 5120 bit"),
        A100_QUERY,
    ),
    "a100-40gb": _a100(
        "40GB",
        Cited(value=1555.0, source=f"{A100_40_QUERY}: 1215 MHz x 2 x 5120 bit"),
        A100_40_QUERY,
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
        bandwidth_GBps=Cited(value=4800.0, source=H200_NEWS),
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
        multiprocessors=Cited(value=128, source=f"{FPS_4090}: 16384 cores"),
        clock_GHz=Cited(value=2.52, source=FPS_4090),
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
        bandwidth_GBps=Cited(value=17.1, source=f"{PI5_NEWS}: 32 bit at 4267 MT/s"),
    ),
    **{name: _apple(*row) for name, row in APPLES.items()},
}
