"""What this machine is: packages, the GPU as the driver describes it, its state as NVML sees it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.check.events import Unavailable
from edgebench_kernels.cuda.driver import Gpu

PACKAGES = (
    "torch",
    "triton",
    "cuda-core",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-nvrtc-cu12",
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "nvidia-ml-py",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pydantic",
    "pytest",
    "click",
    "humming-kernels",
)
OLDEST_CUDA_CORE = (0, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """The first GPU."""

    name: str
    arch: str
    multiprocessors: int
    l2_bytes: int
    memory_bytes: int

    @property
    def shared_bytes(self) -> int:
        """That a block may have."""
        return ARCHITECTURES[self.arch].shared_bytes


def versions() -> dict[str, str | None]:
    """Of Python and of every package that plays a part; None: it is not there."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def cuda_core_note(version: str | None) -> str:
    """What is to be said of a cuda-core; empty where all is well."""
    if version is None:
        return "cuda-core is missing: pip install 'edgebench[nvidia]'"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_CUDA_CORE:
        oldest = ".".join(map(str, OLDEST_CUDA_CORE))
        return f"cuda-core {version} is older than {oldest}, the oldest that was tried"
    return ""


def gpu_facts(gpu: Gpu) -> GpuFacts:
    """What launches are tuned for, of an opened GPU."""
    from cuda.bindings import driver

    kinds = driver.CUdevice_attribute
    return GpuFacts(
        name=gpu.name,
        arch=gpu.arch,
        multiprocessors=_attribute(
            driver, kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, gpu.device
        ),
        l2_bytes=_attribute(driver, kinds.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, gpu.device),
        memory_bytes=gpu.memory_bytes()[1],
    )


def _attribute(driver: Any, kind: Any, device: int) -> int:
    code, value = driver.cuDeviceGetAttribute(kind, device)
    if int(code):
        raise Unavailable(f"the driver does not say {kind.name} ({code.name})")
    return int(value)


def state() -> dict[str, Any]:
    """Clocks, power, temperature and what holds them back, now; Unavailable without NVML."""
    try:
        import pynvml
    except ImportError as err:
        raise Unavailable("nvidia-ml-py is missing: no clocks, no power") from err
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {name: _asked(pynvml, query, handle) for name, query in QUERIES.items()}
    except pynvml.NVMLError as err:
        raise Unavailable(f"NVML does not answer: {err}") from err


def _asked(nvml: Any, query: tuple[str, str | None], handle: Any) -> Any:
    """A number of NVML; None where this GPU does not tell it."""
    call, kind = query
    try:
        arguments = () if kind is None else (getattr(nvml, kind),)
        value = getattr(nvml, call)(handle, *arguments)
    except (nvml.NVMLError, AttributeError):
        return None
    return value.decode() if isinstance(value, bytes) else value


# What the summary calls it -> NVML's call and the kind that it is given.
QUERIES: dict[str, tuple[str, str | None]] = {
    "sm_clock_MHz": ("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
    "sm_clock_max_MHz": ("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
    "memory_clock_MHz": ("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
    "memory_clock_max_MHz": ("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_MEM"),
    "power_mW": ("nvmlDeviceGetPowerUsage", None),
    "power_limit_mW": ("nvmlDeviceGetEnforcedPowerLimit", None),
    "temperature_C": ("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
    "throttle_reasons": ("nvmlDeviceGetCurrentClocksThrottleReasons", None),
}


def driver_version() -> str | None:
    """The NVIDIA driver's own version; None without NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except Exception:  # noqa: BLE001 (no NVML in any of its ways: the rest goes on)
        return None
    return version.decode() if isinstance(version, bytes) else str(version)
