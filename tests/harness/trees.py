"""Machines as trees of plain files: the boards that nobody here has, as their kernels show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Rails = Mapping[str, tuple[int, int]]
"""Rail -> (mV, mA)."""

BOARDS: Mapping[str, tuple[str, ...]] = {
    "orin": ("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0005"),
    "orin-nx": ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
                "nvidia,p3768-0000+p3767-0000"),
    "orin-nano": ("NVIDIA Jetson Orin Nano Developer Kit", "nvidia,p3768-0000+p3767-0005"),
    "thor": ("NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008"),
    "unknown": ("NVIDIA Jetson of the future", "nvidia,p9999-0000+p9999-0000"),
}  # fmt: skip
# What the first three add up to is 9.12 + 3.04 + 5.05 = 17.21 W; the fourth would add 1.2 W.
AGX_RAILS: Rails = {
    "VDD_GPU_SOC": (19_000, 480),
    "VDD_CPU_CV": (19_000, 160),
    "VIN_SYS_5V0": (5_050, 1_000),
    "VDDQ_VDD2_1V8AO": (5_000, 240),
}
NX_RAILS: Rails = {
    "VDD_IN": (19_000, 400),
    "VDD_CPU_GPU_CV": (19_000, 160),
    "VDD_SOC": (19_000, 80),
}
RAILS: Mapping[str, Rails] = {
    "orin": AGX_RAILS,
    "orin-nx": NX_RAILS,
    "orin-nano": NX_RAILS,
    "unknown": {"VDD_NEW": (5_000, 100)},
    "thor": {},
}
MODES: Mapping[str, Mapping[int, str]] = {
    "orin": {0: "MAXN", 1: "MODE_15W", 2: "MODE_30W", 3: "MODE_50W"},
    "orin-nx": {0: "MAXN", 1: "10W", 2: "15W", 3: "25W"},
    "orin-nano": {0: "15W", 1: "25W", 2: "MAXN_SUPER"},
    "thor": {0: "MAXN", 1: "120W"},
    "unknown": {},
}


def put(root: Path, path: str, text: object) -> Path:
    """Write one small file of a tree."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")
    return file


@dataclass(frozen=True)
class Tree:
    """One board's files; the methods change what its kernel would."""

    root: Path

    def rail(self, name: str, milliamperes: int) -> None:
        """Change the current through a rail."""
        label = next(p for p in self.labels() if p.read_text().strip() == name)
        number = label.name[2]
        put(label.parent, f"curr{number}_input", milliamperes)

    def labels(self) -> list[Path]:
        """The label file of every channel."""
        return sorted(self.root.glob("sys/bus/i2c/devices/*/hwmon/*/in[0-9]_label"))


def ina3221(root: Path, address: str, hwmon: int, rails: Rails) -> None:
    """Put one chip of up to three channels; channel 7 is the sum of shunts that drivers show."""
    device = f"sys/bus/i2c/devices/{address}"
    folder = f"{device}/hwmon/hwmon{hwmon}"
    put(root, f"{device}/name", "ina3221")
    put(root, f"{folder}/name", "ina3221")
    put(root, f"{folder}/update_interval", 18)
    put(root, f"{folder}/in7_label", "sum of shunt voltages")
    for number, (name, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        put(root, f"{folder}/in{number}_label", name)
        put(root, f"{folder}/in{number}_input", millivolts)
        put(root, f"{folder}/curr{number}_input", milliamperes)


def ina3221x(root: Path, address: str, number: int, rails: Rails) -> None:
    """Put one chip as JetPack 4's own driver shows it: through iio, its channels from 0."""
    folder = f"sys/bus/i2c/drivers/ina3221x/{address}/iio:device{number}"
    put(root, f"{folder}/name", "ina3221x")
    for channel, (name, (millivolts, milliamperes)) in enumerate(rails.items()):
        put(root, f"{folder}/rail_name_{channel}", name)
        put(root, f"{folder}/in_voltage{channel}_input", millivolts)
        put(root, f"{folder}/in_current{channel}_input", milliamperes)
        put(root, f"{folder}/in_power{channel}_input", millivolts * milliamperes // 1000)
        put(root, f"{folder}/polling_delay_{channel}", "0 ms")


def ina238(root: Path, microwatts: int, address: str = "2-0044") -> None:
    """Put the chip of Thor's input."""
    device = f"sys/bus/i2c/devices/{address}"
    put(root, f"{device}/name", "ina238")
    put(root, f"{device}/hwmon/hwmon5/name", "ina238")
    put(root, f"{device}/hwmon/hwmon5/in1_input", 20_000)
    put(root, f"{device}/hwmon/hwmon5/curr1_input", microwatts // 20_000)
    put(root, f"{device}/hwmon/hwmon5/power1_input", microwatts)


def board(root: Path, name: str, *, mode: int = 0) -> Tree:
    """Put a whole board: device tree, release, CPU, rails, clocks, power modes, temperatures."""
    title, part = BOARDS[name]
    soc = "nvidia,tegra264" if name == "thor" else "nvidia,tegra234"
    put(root, "proc/device-tree/model", title + "\0")
    put(root, "proc/device-tree/compatible", f"{part}\0{soc}\0")
    put(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic")
    core = "Features\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd42"
    put(root, "proc/cpuinfo", "\n\n".join(f"processor\t: {i}\n{core}" for i in range(12)))
    put(root, "sys/devices/system/cpu/online", "0-11")
    rails = list(RAILS[name].items())
    for chip, first in enumerate(range(0, len(rails), 3)):
        ina3221(root, f"1-004{chip}", 3 + chip, dict(rails[first : first + 3]))
    if name == "thor":
        ina238(root, 41_500_000)
    _power_modes(root, MODES[name], mode)
    _clocks(root, "gpu-gpc-0" if name == "thor" else "17000000.gpu")
    _temperatures(root)
    return Tree(root)


def _power_modes(root: Path, modes: Mapping[int, str], mode: int) -> None:
    table = "\n".join(f"< POWER_MODEL ID={i} NAME={name} >\nCPU_ONLINE CORE_0 1" for i, name in
                      modes.items())  # fmt: skip
    put(root, "etc/nvpmodel.conf", table)
    put(root, "var/lib/nvpmodel/status", f"pmode:{mode:04d} fmode:quiet")


def _clocks(root: Path, gpu: str) -> None:
    for file, value in (("cur_freq", 1_300_500_000), ("min_freq", 1_300_500_000),
                        ("max_freq", 1_300_500_000), ("governor", "nvhost_podgov")):  # fmt: skip
        put(root, f"sys/class/devfreq/{gpu}/{file}", value)
    policy = "sys/devices/system/cpu/cpu0/cpufreq"
    for file in ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq"):
        put(root, f"{policy}/{file}", 2_201_600)
    put(root, f"{policy}/scaling_governor", "performance")


def _temperatures(root: Path) -> None:
    for number, (name, millicelsius) in enumerate(
        {"gpu-thermal": 48_000, "tj-thermal": 51_000}.items()
    ):
        put(root, f"sys/class/thermal/thermal_zone{number}/type", name)
        put(root, f"sys/class/thermal/thermal_zone{number}/temp", millicelsius)
    put(root, "sys/class/thermal/cooling_device0/type", "17000000.gpu")
    put(root, "sys/class/thermal/cooling_device0/cur_state", 0)
    for number in (1, 2, 3):
        put(root, f"sys/class/hwmon/hwmon1/oc{number}_event_cnt", 0)
    put(root, "sys/class/hwmon/hwmon1/name", "soctherm_oc")
