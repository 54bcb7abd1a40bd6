"""NVML: the energy counter and power of one NVIDIA GPU, through nvidia-ml-py.

On a Jetson the library loads, counts one device and refuses every power call, so a probe is a
reading, never `nvmlInit()`. The library is imported only here, and only when a probe is made.

On a superchip (GH200, GB200) NVML also tells the module's power, CPU and GPU together, and its
counter counts the module (ml-energy/zeus, pull request 172): it is then named so, and held against
the module's power, never against the GPU's. No superchip was at hand.
Source: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebench import machine
from edgebench.meters.protocol import Domain, Probe

UPDATE_S = 0.1  # the counter moves about every 100 ms: ML.ENERGY, "Measuring GPU Energy"
LIMIT_FACTOR = 2.0  # boards overshoot an enforced limit for milliseconds, not twofold for 100 ms
AVERAGE_POWER = 185  # NVML_FI_DEV_POWER_AVERAGE
INSTANT_POWER = 186  # NVML_FI_DEV_POWER_INSTANT
AVERAGED_S = 1.0  # the average smears a block's edge over this long: nvml.h, power fields
CURRENT_LIMIT = 190  # NVML_FI_DEV_POWER_CURRENT_LIMIT
SCOPE_GPU, SCOPE_MODULE, SCOPE_MEMORY = 0, 1, 2  # NVML_POWER_SCOPE_*
# Memory is inside the GPU and the GPU inside the module: each is shown and none is added.
COVERS: Mapping[int, str] = {
    SCOPE_GPU: "GPU board (NVML scope GPU)",
    SCOPE_MODULE: "module, CPU and GPU (NVML scope module)",
    SCOPE_MEMORY: "GPU memory, inside the GPU's power (NVML scope memory)",
}
SHADOW = (
    "the old package 'pynvml' hides nvidia-ml-py; "
    "pip uninstall pynvml && pip install --force-reinstall nvidia-ml-py"
)


def load_nvml(root: Path = machine.ROOT) -> tuple[Any, str]:
    """Import nvidia-ml-py; return (module, "") or (None, why it cannot be used)."""
    has_driver = machine.inspect(root).nvidia_driver is not None
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        if has_driver:
            return None, "nvidia-ml-py is not installed; pip install 'edgebench[nvidia]'"
        return None, "no NVIDIA driver"
    if not hasattr(nvml, "_nvmlGetFunctionPointer"):  # the old package hides its privates
        return None, SHADOW
    return nvml, ""


def first_visible(variables: Mapping[str, str]) -> str:
    """The number (in PCI order) or UUID of the GPU that CUDA calls its first.

    Where CUDA_VISIBLE_DEVICES hides all of them there is no first: 0, and nothing runs there.
    """
    return variables.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One number that NVML may have."""

    name: str
    update_s: float
    unit: str = "mW"
    field: int | None = None
    """Of nvmlDeviceGetFieldValues; None: `call`."""
    scope: int = SCOPE_GPU
    call: str = ""
    is_fallback: bool = False
    """Asked only where no other power answers."""

    def read(self, nvml: Any, handle: Any) -> int:
        """Ask NVML now; raises its NVMLError."""
        if self.field is not None:
            return _field_mW(nvml, handle, self.field, self.scope)
        return int(getattr(nvml, self.call)(handle))


MODULE_INSTANT = _Source(
    name="module_power_instant", update_s=UPDATE_S, field=INSTANT_POWER, scope=SCOPE_MODULE
)
SOURCES = (
    _Source(
        name="energy", update_s=UPDATE_S, unit="mJ", call="nvmlDeviceGetTotalEnergyConsumption"
    ),
    _Source(name="power_instant", update_s=UPDATE_S, field=INSTANT_POWER),
    _Source(name="power_average", update_s=AVERAGED_S, field=AVERAGE_POWER),
    _Source(name="power", update_s=AVERAGED_S, call="nvmlDeviceGetPowerUsage", is_fallback=True),
    MODULE_INSTANT,
    _Source(
        name="memory_power_average", update_s=AVERAGED_S, field=AVERAGE_POWER, scope=SCOPE_MEMORY
    ),
)


def _field_mW(nvml: Any, handle: Any, field: int, scope: int) -> int:
    """Read a power field of a scope in mW; raises NVMLError as the other calls do."""
    asked = field if scope == SCOPE_GPU else (field, scope)
    value = nvml.nvmlDeviceGetFieldValues(handle, [asked])[0]
    if value.nvmlReturn != 0:
        raise nvml.NVMLError(value.nvmlReturn)
    return int(value.value.uiVal)


class NvmlMeter:
    """Reads the GPU board that kernels run on: its energy counter and its power."""

    name = "nvml"

    def __init__(
        self,
        root: Path = machine.ROOT,
        *,
        nvml: Any = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._root = root
        self._visible = first_visible(os.environ if variables is None else variables)
        self._nvml = nvml
        self._readers: dict[str, Callable[[], float]] = {}

    def probe(self) -> Probe:
        """Read the counter and the power once, whatever the library claims to support."""
        self._readers = {}
        if self._nvml is None:
            self._nvml, reason = load_nvml(self._root)
            if self._nvml is None:
                return Probe(meter=self.name, ok=False, reason=reason)
        try:
            self._nvml.nvmlInit()
            handle = self._handle()
            if self._is_partitioned(handle):
                return Probe(
                    meter=self.name, ok=False, reason="MIG is on: NVML meters the whole GPU"
                )
            domains, missing = self._domains(handle)
        except self._nvml.NVMLError as err:
            absent = machine.inspect(self._root).nvidia_driver is None
            reason = f"{err} (no NVIDIA driver found)" if absent else str(err)
            return Probe(meter=self.name, ok=False, reason=reason)
        return Probe(
            meter=self.name,
            ok=bool(domains),
            reason="; ".join(missing),
            domains=tuple(domains),
            primary=domains[0].name if domains else None,
            covers=domains[0].covers if domains else "",
            beside=tuple(domain.name for domain in domains[1:]),
        )

    def read(self) -> dict[str, float]:
        """Return the counter in mJ and the power in mW; a refused call is left out."""
        values = {name: self._attempt(reader) for name, reader in self._readers.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _handle(self) -> Any:
        if self._visible.isdecimal():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(self._visible))
        return self._nvml.nvmlDeviceGetHandleByUUID(self._visible)

    def _attempt(self, reader: Callable[[], float]) -> float | None:
        try:
            return reader()
        except self._nvml.NVMLError:
            return None

    def _domains(self, handle: Any) -> tuple[list[Domain], list[str]]:
        """Try each source of a number; the counter comes first because it misses nothing.

        `nvmlDeviceGetPowerUsage` is an average on some GPUs and instantaneous on others, so it is
        asked only where neither of the two fields that say which they are answers. Few GPUs have a
        scope beside their own, so that it is absent is nothing to tell.
        """
        found: list[Domain] = []
        missing: list[str] = []
        is_module = self._try(handle, MODULE_INSTANT)
        for source in SOURCES:
            if source.is_fallback and any(domain.kind == "power" for domain in found):
                continue
            fault = self._fault(handle, source)
            if fault is None:
                found.append(self._domain(handle, source, is_module=is_module))
            elif source.scope == SCOPE_GPU:
                missing.append(f"{source.name}: {fault}")
        return found, missing

    def _domain(self, handle: Any, source: _Source, *, is_module: bool) -> Domain:
        """Declare one source that answered, and keep how it is read."""
        board = f"gpu{self._visible}" if self._visible.isdecimal() else "gpu"
        counts_module = is_module and source.unit == "mJ"
        name = f"{board}.{'module_' if counts_module else ''}{source.name}"
        self._readers[name] = lambda: source.read(self._nvml, handle)
        scope = SCOPE_MODULE if counts_module else source.scope
        return Domain(
            name=name,
            covers=COVERS[scope],
            kind="counter" if source.unit == "mJ" else "power",
            unit=source.unit,
            update_s=source.update_s,
            limit_W=self._limit_W(handle, scope),
        )

    def _try(self, handle: Any, source: _Source) -> bool:
        return self._fault(handle, source) is None

    def _fault(self, handle: Any, source: _Source) -> str | None:
        """Read a source once; say why it has no number."""
        try:
            value = source.read(self._nvml, handle)
        except self._nvml.NVMLError as err:
            return str(err)
        return None if value or source.scope == SCOPE_GPU else "0 mW"

    def _limit_W(self, handle: Any, scope: int) -> float | None:
        """More than a scope can draw: from its own limit; None where it tells none."""
        try:
            if scope == SCOPE_GPU:
                limit_mW = int(self._nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
            else:
                limit_mW = _field_mW(self._nvml, handle, CURRENT_LIMIT, scope)
        except self._nvml.NVMLError:
            return None
        return LIMIT_FACTOR * limit_mW / 1000 if limit_mW else None

    def _is_partitioned(self, handle: Any) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(handle)[0])
        except self._nvml.NVMLError:
            return False
