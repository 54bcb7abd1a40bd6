"""Meters: what the machine drew while a kernel ran, or the honest reason why that is unknown.

Every meter that works is recorded into `power.csv`; one, the primary, is reported. Which one
depends on where the kernels executed: a GPU board's energy says nothing about kernels on the CPU.
Adding a meter = one file + one row in METERS + its place in PREFERENCE + one test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgebench import machine
from edgebench.devices import Backend, ResolvedDevice
from edgebench.errors import unknown_name
from edgebench.meters.integrate import integrate, recompute
from edgebench.meters.none import NoneMeter
from edgebench.meters.nvml import NvmlMeter
from edgebench.meters.protocol import UNITS, Domain, Meter, Probe
from edgebench.meters.rapl import RaplMeter
from edgebench.meters.sampler import PERIOD_S, PowerLog, Probed

__all__ = [
    "METERS",
    "PERIOD_S",
    "UNITS",
    "Domain",
    "Meter",
    "MeterSelection",
    "PowerLog",
    "Primary",
    "Probe",
    "Probed",
    "integrate",
    "recompute",
    "select",
]


class MeterFactory(Protocol):
    """Makes a meter that looks at the machine under `root`."""

    def __call__(self, root: Path) -> Meter: ...


METERS: Mapping[str, MeterFactory] = {
    "rapl": lambda root: RaplMeter(root),
    "nvml": lambda root: NvmlMeter(root),
    "none": lambda root: NoneMeter(),
}

# The meters that cover what executes on a backend, best first.
PREFERENCE: Mapping[Backend, tuple[str, ...]] = {"cpu": ("rapl",), "cuda": ("nvml",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Primary:
    """The meter and the domain whose energy is reported."""

    meter: str
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSelection:
    """Every meter with its probe, and the one that is reported."""

    primary: Primary | None
    probed: tuple[Probed, ...]
    reason: str
    """Why nothing is reported, put together from all probes; empty with a primary."""

    @property
    def working(self) -> tuple[Probed, ...]:
        """The meters to sample: the reported one and those recorded beside it."""
        return tuple(item for item in self.probed if item.probe.ok)


def select(
    device: ResolvedDevice, *, only: Iterable[str] | None = None, root: Path = machine.ROOT
) -> MeterSelection:
    """Probe the meters (`only` those named) and pick the one that covers where kernels execute."""
    names = [name for name in METERS if name != "none"] if only is None else list(only)
    for name in names:
        if name not in METERS:
            raise unknown_name("--meter", "meter", name, METERS)
    meters = [METERS[name](root) for name in names]
    probed = tuple(Probed(meter=meter, probe=meter.probe()) for meter in meters)
    probes = {item.probe.meter: item.probe for item in probed}
    for name in PREFERENCE[device.backend]:
        if name in probes and probes[name].ok and probes[name].primary is not None:
            primary = Primary(meter=name, domain=str(probes[name].primary))
            return MeterSelection(primary=primary, probed=probed, reason="")
    return MeterSelection(primary=None, probed=probed, reason=_why(probes, device.backend))


def _why(probes: Mapping[str, Probe], backend: Backend) -> str:
    """Join the reasons of all probes; a working meter that does not apply says so."""
    told = []
    for name, probe in probes.items():
        working = f"works, but does not cover kernels on the {'CPU' if backend == 'cpu' else 'GPU'}"
        told.append(f"{name.upper()}: {working if probe.ok else probe.reason}")
    return "; ".join(told) or "no meter was asked for"
