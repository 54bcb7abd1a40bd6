"""Meters: what the machine drew while a kernel ran, or the honest reason why that is unknown.

Every meter that works is recorded into `power.csv`; one, the primary, is reported. Which one
depends on where the kernels executed: a GPU board's energy says nothing about kernels on the CPU.
A Jetson's rails cover the whole module, so they are taken for kernels on either. An external meter
that was asked for is reported or nothing is: no run falls from one domain to another in silence.
Adding a meter = one file + one row in METERS + its place in PREFERENCE + one test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgebench import machine
from edgebench.devices import Backend, ResolvedDevice
from edgebench.meters.csvfile import CsvMeter
from edgebench.meters.ina238 import Ina238Meter
from edgebench.meters.ina3221 import Ina3221Meter
from edgebench.meters.integrate import Source, integrate, recompute
from edgebench.meters.jtop import JtopMeter
from edgebench.meters.none import NoneMeter
from edgebench.meters.nvml import NvmlMeter
from edgebench.meters.protocol import UNITS, Domain, Meter, Probe
from edgebench.meters.rapl import RaplMeter
from edgebench.meters.request import CSV, EVERY, MeterRequest, parse_meter
from edgebench.meters.sampler import PERIOD_S, PowerLog, Probed

__all__ = [
    "EVERY",
    "METERS",
    "PERIOD_S",
    "UNITS",
    "Domain",
    "JtopMeter",
    "Meter",
    "MeterRequest",
    "MeterSelection",
    "PowerLog",
    "Probe",
    "Probed",
    "Source",
    "integrate",
    "parse_meter",
    "recompute",
    "select",
]


class MeterFactory(Protocol):
    """Makes a meter that looks at the machine under `root`."""

    def __call__(self, root: Path) -> Meter: ...


METERS: Mapping[str, MeterFactory] = {
    "ina238": lambda root: Ina238Meter(root),
    "ina3221": lambda root: Ina3221Meter(root),
    "jtop": lambda root: JtopMeter(root),
    "rapl": lambda root: RaplMeter(root),
    "nvml": lambda root: NvmlMeter(root),
}
"""The machine's own meters; `csv` needs a file and `none` asks for no meter at all."""

# The meters that cover what executes on a backend, best first.
MODULE = ("ina238", "ina3221", "jtop")
PREFERENCE: Mapping[Backend, tuple[str, ...]] = {
    "cpu": (CSV, *MODULE, "rapl"),
    "cuda": (CSV, *MODULE, "nvml"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSelection:
    """Every meter with its probe, and the one that is reported."""

    primary: Source | None
    probed: tuple[Probed, ...]
    reason: str
    """Why nothing is reported, put together from all probes; empty with a primary."""

    @property
    def beside(self) -> tuple[Source, ...]:
        """What else is recorded and can be held against the reported energy, meter by meter."""
        found = [source for item in self.working for source in _sources(item.probe)]
        return tuple(one for one in found if one != self.primary)

    @property
    def working(self) -> tuple[Probed, ...]:
        """The meters to sample: the reported one and those recorded beside it."""
        return tuple(item for item in self.probed if item.probe.ok)


def select(
    device: ResolvedDevice, request: MeterRequest = EVERY, *, root: Path = machine.ROOT
) -> MeterSelection:
    """Probe the meters asked for and pick the one that covers where kernels execute."""
    if request.names == () and request.csv is None:
        return MeterSelection(primary=None, probed=(), reason=NoneMeter().probe().reason)
    meters = [METERS[name](root) for name in (METERS if request.names is None else request.names)]
    if request.csv is not None:
        meters.insert(0, CsvMeter(request.csv))
    probed = tuple(Probed(meter=meter, probe=meter.probe()) for meter in meters)
    probes = {item.probe.meter: item.probe for item in probed}
    if request.csv is not None and not probes[CSV].ok:
        return MeterSelection(primary=None, probed=probed, reason=f"CSV: {probes[CSV].reason}")
    for name in PREFERENCE[device.backend]:
        if name in probes and probes[name].ok and probes[name].primary is not None:
            primary = Source(
                meter=name, domain=str(probes[name].primary), covers=probes[name].covers
            )
            return MeterSelection(primary=primary, probed=probed, reason="")
    return MeterSelection(primary=None, probed=probed, reason=_why(probes, device.backend))


def _sources(probe: Probe) -> Iterator[Source]:
    """Yield what a meter reports, then what it shows beside, each with its own cover."""
    if probe.primary is not None:
        yield Source(meter=probe.meter, domain=probe.primary, covers=probe.covers)
    covers = {domain.name: domain.covers for domain in probe.domains}
    for name in probe.beside:
        yield Source(meter=probe.meter, domain=name, covers=covers[name])


def _why(probes: Mapping[str, Probe], backend: Backend) -> str:
    """Join the reasons of all probes; a working meter that does not apply says so."""
    told = []
    for name, probe in probes.items():
        working = f"works, but does not cover kernels on the {'CPU' if backend == 'cpu' else 'GPU'}"
        told.append(f"{name.upper()}: {working if probe.ok else probe.reason}")
    return "; ".join(told)
