r"""RAPL: the energy counters of Intel and AMD CPU packages, through Linux' powercap files.

    /sys/class/powercap/intel-rapl:0        name=package-0   one socket or die: added up
                       /intel-rapl:0:0      name=core        inside the package: left out
                       /intel-rapl:0:1      name=uncore      inside the package: left out
                       /intel-rapl:0:2      name=dram        outside of the package: added
                       /intel-rapl:1        name=psys        overlaps the packages: left out
                       /intel-rapl-mmio:0   name=package-0   the same counter again: left out

Source: Linux Documentation/power/powercap/powercap.rst; AMD uses the same names since 5.8.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgebench import machine
from edgebench.meters.protocol import Domain, Probe

UPDATE_S = 0.001  # Intel SDM vol. 3B 15.10: updated about every millisecond
LIMIT_W = 2000.0  # several times the largest package (500 W class): above it is a reset, not a load
NO_ZONES = "no powercap zones (not bare metal, or masked by the container)"
# Root only since Linux 5.10: the counters leak secrets (CVE-2020-8694, CVE-2020-12912).
PERMISSION = "permission denied; sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj"


class RaplMeter:
    """Reads the package zones and the memory zones, which do not overlap."""

    name = "rapl"

    def __init__(self, root: Path = machine.ROOT) -> None:
        self._base = root / "sys/class/powercap"
        self._files: dict[str, Path] = {}

    def probe(self) -> Probe:
        """Read each zone once; what cannot be read is named with the command that would fix it."""
        zones = self._zones()
        tried = [_try(name, zone) for name, zone in zones.items()]
        domains = [result for result in tried if isinstance(result, Domain)]
        missing = [result for result in tried if isinstance(result, str)]
        self._files = {domain.name: zones[domain.name] / "energy_uj" for domain in domains}
        read = sorted(domain.name for domain in domains)
        packages = [name for name in read if name.startswith("package")]
        whole = len(read) == len(zones)  # one socket of two would pass for the machine
        return Probe(
            meter=self.name,
            ok=bool(packages) and whole,
            reason="; ".join(missing) or ("" if packages else NO_ZONES),
            domains=tuple(domains),
            primary="+".join(read) if packages and whole else None,
            covers="CPU packages and memory" if read != packages else "CPU packages",
        )

    def read(self) -> dict[str, float]:
        """Return each zone's counter in uJ; an unreadable one is left out."""
        values = {name: machine.read_int(path) for name, path in self._files.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _zones(self) -> dict[str, Path]:
        """Map domain names to zones, the MSR twin before the MMIO one, nested zones left out."""
        zones: dict[str, Path] = {}
        for pattern in ("intel-rapl:[0-9]*", "intel-rapl-mmio:[0-9]*"):
            for zone in sorted(self._base.glob(pattern)):
                name = re.sub(r"[^\w.-]", "_", machine.read_text(zone / "name") or "")
                socket, _, nested = zone.name.partition(":")[2].partition(":")
                if not nested and name.startswith("package"):
                    zones.setdefault(name, zone)
                elif name == "dram":
                    zones.setdefault(f"dram-{socket}", zone)
        return zones


def _try(name: str, zone: Path) -> Domain | str:
    """Read a zone once; return it, or why not."""
    try:
        return _domain(name, zone)
    except PermissionError:
        return f"{name}: {PERMISSION}"
    except (OSError, ValueError) as err:
        return f"{name}: {type(err).__name__} on {zone.name}/energy_uj"


def _domain(name: str, zone: Path) -> Domain:
    int((zone / "energy_uj").read_text())  # the probe: a number came back
    return Domain(
        name=name,
        covers="CPU package" if name.startswith("package") else "memory of one socket",
        kind="counter",
        unit="uJ",
        update_s=UPDATE_S,
        range=int((zone / "max_energy_range_uj").read_text()),
        limit_W=LIMIT_W,
    )
