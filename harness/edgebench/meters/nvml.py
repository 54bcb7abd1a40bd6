"""NVML: the energy counter and power of one NVIDIA GPU, through nvidia-ml-py.

On a Jetson the library loads, counts one device and refuses every power call, so a probe is a
reading, never `nvmlInit()`. The library is imported only here, and only when a probe is made.
Source: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgebench import machine
from edgebench.meters.protocol import Domain, Probe

UPDATE_S = 0.1  # the counter moves about every 100 ms: ML.ENERGY, "Measuring GPU Energy"
LIMIT_FACTOR = 2.0  # boards overshoot an enforced limit for milliseconds, not twofold for 100 ms
AVERAGE_POWER = 185  # NVML_FI_DEV_POWER_AVERAGE
INSTANT_POWER = 186  # NVML_FI_DEV_POWER_INSTANT
AVERAGED_S = 1.0  # the average smears a block's edge over this long: nvml.h, power fields
BOARD = "GPU board (the whole module on Grace-Hopper)"
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
            limit_W = self._limit_W(handle)
        except self._nvml.NVMLError as err:
            absent = machine.inspect(self._root).nvidia_driver is None
            reason = f"{err} (no NVIDIA driver found)" if absent else str(err)
            return Probe(meter=self.name, ok=False, reason=reason)
        domains, missing = self._domains(handle, limit_W)
        return Probe(
            meter=self.name,
            ok=bool(domains),
            reason="; ".join(missing),
            domains=tuple(domains),
            primary=domains[0].name if domains else None,
            covers=BOARD,
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

    def _domains(self, handle: Any, limit_W: float | None) -> tuple[list[Domain], list[str]]:
        """Try each source of a number; the counter comes first because it misses nothing.

        `nvmlDeviceGetPowerUsage` is an average on some GPUs and instantaneous on others, so it is
        asked only where neither of the two fields that say which they are answers.
        """
        board = f"gpu{self._visible}" if self._visible.isdecimal() else "gpu"
        nvml = self._nvml
        readers: tuple[tuple[str, str, float, Callable[[], float]], ...] = (
            (
                "energy",
                "mJ",
                UPDATE_S,
                lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)),
            ),
            ("power_instant", "mW", UPDATE_S, lambda: self._field_mW(handle, INSTANT_POWER)),
            ("power_average", "mW", AVERAGED_S, lambda: self._field_mW(handle, AVERAGE_POWER)),
            ("power", "mW", AVERAGED_S, lambda: int(nvml.nvmlDeviceGetPowerUsage(handle))),
        )
        domains: list[Domain] = []
        missing: list[str] = []
        for what, unit, update_s, reader in readers:
            if what == "power" and any(domain.kind == "power" for domain in domains):
                continue
            try:
                reader()
            except nvml.NVMLError as err:
                missing.append(f"{what}: {err}")
                continue
            self._readers[f"{board}.{what}"] = reader
            domains.append(
                Domain(
                    name=f"{board}.{what}",
                    covers=BOARD,
                    kind="counter" if unit == "mJ" else "power",
                    unit=unit,
                    update_s=update_s,
                    limit_W=limit_W,
                )
            )
        return domains, missing

    def _field_mW(self, handle: Any, field: int) -> float:
        value = self._nvml.nvmlDeviceGetFieldValues(handle, [field])[0]
        if value.nvmlReturn != 0:
            raise self._nvml.NVMLError(value.nvmlReturn)
        return int(value.value.uiVal)

    def _limit_W(self, handle: Any) -> float | None:
        try:
            return LIMIT_FACTOR * int(self._nvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000
        except self._nvml.NVMLError:
            return None

    def _is_partitioned(self, handle: Any) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(handle)[0])
        except self._nvml.NVMLError:
            return False
