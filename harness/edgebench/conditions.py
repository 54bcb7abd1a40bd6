"""The state of the machine that decides whether its numbers can be believed, read as it is now.

Nothing is changed and nothing needs root. What a machine does not show is None or empty: a
condition that nobody can read is not judged, and the record says that it was not seen.
Sources: NVML clocks event reasons (nvml.h); Jetson's over-current counters oc1 (under-voltage),
oc2 (average), oc3 (instantaneous) of the soctherm driver; Linux' thermal and cpufreq files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgebench import machine
from edgebench.jetson import gpu_clock_folder
from edgebench.machine import read_int, read_text

# NVML's bits. Those that take speed away against the machine's will make a closed run invalid.
HARMFUL_REASONS: Mapping[int, str] = {
    0x08: "HW slowdown",
    0x20: "SW thermal slowdown",
    0x40: "HW thermal slowdown",
    0x80: "HW power brake",
}
POWER_CAP = 0x04  # normal under a set limit; said, not refused
CAP_NAME = "SW power cap"
# What a Raspberry Pi's firmware says of now. Source: Raspberry Pi documentation, vcgencmd.
PI_REASONS: Mapping[int, str] = {
    0x1: "under-voltage",
    0x2: "frequency capped",
    0x4: "throttled",
    0x8: "soft temperature limit",
}
HARMFUL = frozenset({*HARMFUL_REASONS.values(), *PI_REASONS.values()})
COOLED = ("cpu", "gpu")  # cooling devices whose state takes clocks away; fans have one too


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was readable at one moment."""

    reasons: tuple[str, ...] | None = None
    """Why the GPU runs slower than it could; None: nothing tells."""
    gpu_clock_MHz: float | None = None
    gpu_temperature_C: float | None = None
    foreign_processes: int | None = None
    """Other processes that compute on the GPU; None: nothing tells."""
    cpu_clock_MHz: float | None = None
    """Of the slowest core."""
    temperatures_C: Mapping[str, float] = field(default_factory=dict)
    cooling: tuple[str, ...] = ()
    """Cooling devices of CPU and GPU that are active."""
    over_currents: int | None = None
    """Over-current events since boot, all kinds."""
    cpu_throttles: int | None = None
    """How often the CPU took clocks back since boot, because it was too hot."""
    governor: str | None = None
    power_mode: str | None = None
    load: float | None = None
    """Load average of the last minute."""
    swap_used_bytes: int | None = None

    @property
    def hottest_C(self) -> float | None:
        """The highest temperature of any zone or the GPU."""
        known = [*self.temperatures_C.values(), self.gpu_temperature_C]
        return max((each for each in known if each is not None), default=None)


class Watch:
    """Reads snapshots of one machine.

    `own_processes`: how many of those on the GPU are this run's. They are told by their number and
    not by their ids, because in a container NVML shows the host's ids.
    """

    def __init__(
        self,
        root: Path = machine.ROOT,
        *,
        nvml: Any = None,
        gpu: int = 0,
        own_processes: int = 0,
    ) -> None:
        self._root = root
        self._own_processes = own_processes
        self._nvml = nvml
        self._handle: Any = None
        if nvml is not None:
            try:
                nvml.nvmlInit()
                self._handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
            except nvml.NVMLError:
                self._nvml = None

    def look(self) -> Snapshot:
        """Read everything once."""
        root = self._root
        clock_MHz = self._ask("nvmlDeviceGetClockInfo", 1)  # NVML_CLOCK_SM
        folder = gpu_clock_folder(root)
        if clock_MHz is None and folder is not None:
            hertz = read_int(folder / "cur_freq")
            clock_MHz = None if hertz is None else hertz / 1e6
        load = re.match(r"[\d.]+", read_text(root / "proc/loadavg") or "")
        mode = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
        return Snapshot(
            reasons=self._reasons(),
            gpu_clock_MHz=clock_MHz,
            gpu_temperature_C=self._ask("nvmlDeviceGetTemperature", 0),  # NVML_TEMPERATURE_GPU
            foreign_processes=self._foreign(),
            cpu_clock_MHz=_slowest_core_MHz(root),
            temperatures_C=_temperatures(root),
            cooling=_active_cooling(root),
            over_currents=_over_currents(root),
            cpu_throttles=_cpu_throttles(root),
            governor=read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            power_mode=mode[1] if mode else None,
            load=float(load[0]) if load else None,
            swap_used_bytes=_swap_used(root),
        )

    def _ask(self, call: str, *arguments: int) -> Any:
        if self._nvml is None:
            return None
        try:
            return getattr(self._nvml, call)(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None

    def _reasons(self) -> tuple[str, ...] | None:
        """Name the bits; older drivers know the call by its older name."""
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return _pi_reasons(self._root)
        named = {**HARMFUL_REASONS, POWER_CAP: CAP_NAME}
        return tuple(name for bit, name in named.items() if int(bits) & bit)

    def _foreign(self) -> int | None:
        found = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return None if found is None else max(0, len(found) - self._own_processes)


def _pi_reasons(root: Path) -> tuple[str, ...] | None:
    for path in (root / "sys/devices/platform").glob("soc*/soc*firmware/get_throttled"):
        text = read_text(path) or ""
        if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text):
            bits = int(text, 16)
            return tuple(name for bit, name in PI_REASONS.items() if bits & bit)
    return None


def _cpu_throttles(root: Path) -> int | None:
    """Add up the counters of x86 packages; each core shows its package's, so the highest counts."""
    counts: dict[str, int] = {}
    for core in (root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
        count = read_int(core / "thermal_throttle/package_throttle_count")
        package = read_text(core / "topology/physical_package_id") or "0"
        if count is not None:
            counts[package] = max(count, counts.get(package, 0))
    return sum(counts.values()) if counts else None


def _slowest_core_MHz(root: Path) -> float | None:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [kHz for kHz in map(read_int, files) if kHz]
    return min(clocks) / 1000 if clocks else None


def _temperatures(root: Path) -> dict[str, float]:
    """Thermal zones by their type; a sensor that is off reads nothing or below -100 C."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value, name = read_int(zone / "temp"), read_text(zone / "type")
        if value is not None and name and value > -100_000:
            found[name] = value / 1000
    return found


def _active_cooling(root: Path) -> tuple[str, ...]:
    found = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        name = (read_text(device / "type") or "").lower()
        if any(part in name for part in COOLED) and (read_int(device / "cur_state") or 0) > 0:
            found.append(name)
    return tuple(found)


def _over_currents(root: Path) -> int | None:
    """Add up the event counters of a Jetson's soctherm driver; None where there are none."""
    counts = [
        count
        for folder in (root / "sys/class/hwmon").glob("hwmon*")
        if "soctherm_oc" in (read_text(folder / "name") or "")
        for count in map(read_int, folder.glob("oc*_event_cnt"))
        if count is not None
    ]
    return sum(counts) if counts else None


def _swap_used(root: Path) -> int | None:
    text = read_text(root / "proc/meminfo") or ""
    sizes = dict(re.findall(r"^(SwapTotal|SwapFree):\s+(\d+) kB$", text, re.MULTILINE))
    if len(sizes) < 2:
        return None
    return 1024 * (int(sizes["SwapTotal"]) - int(sizes["SwapFree"]))
