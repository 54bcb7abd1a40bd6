"""The GPUs as NVIDIA's driver names them; what they hold is asked of NVML where that works.

No UUID, serial number or bus address is read: they name one particular board.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from edgebench import machine
from edgebench.meters.nvml import load_nvml
from edgebench.record import Count, NonNegative, StrictModel, Text


class Gpu(StrictModel):
    """One GPU; what NVML does not tell is None."""

    name: Text
    memory_bytes: Count | None = None
    power_limit_W: NonNegative | None = None
    clock_max_MHz: Count | None = None
    l2_cache_bytes: Count | None = Field(
        default=None, description="of the GPU that kernels executed on"
    )
    vbios: Text | None = None


def describe_gpus(named: Sequence[str], root: Path = machine.ROOT, nvml: Any = None) -> list[Gpu]:
    """Describe the GPUs: by NVML if it answers, else by the names that the driver's files gave."""
    plain = [Gpu(name=name) for name in named]
    if nvml is None:
        if not named:
            return plain
        nvml, _ = load_nvml(root)
        if nvml is None:
            return plain
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return [_gpu(nvml, handle) for handle in handles]
    except nvml.NVMLError:
        return plain


def _gpu(nvml: Any, handle: Any) -> Gpu:
    def ask(query: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return query(handle, *arguments)
        except nvml.NVMLError:
            return None

    memory = ask(nvml.nvmlDeviceGetMemoryInfo)
    limit_mW = ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    return Gpu(
        name=str(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=None if memory is None else int(memory.total),
        power_limit_W=None if limit_mW is None else limit_mW / 1000,
        clock_max_MHz=ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
        vbios=ask(nvml.nvmlDeviceGetVbiosVersion),
    )
