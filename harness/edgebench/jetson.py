"""A Jetson's own state: power mode, clocks and fan, from files that need no root.

Ids and names of power modes differ from board to board, so a mode is named by the board's own
table; the watts in a name are labels for clock caps, not a power. Source: NVIDIA Jetson Linux
Developer Guide, Platform Power and Performance (nvpmodel, devfreq).
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from edgebench import machine
from edgebench.machine import read_int, read_text
from edgebench.record import Count, NonNegative, StrictModel, Text

# The GPU's devfreq folder: JetPack 6 on Orin, JetPack 5 on Orin, Thor.
GPU_CLOCKS = ("17000000.gpu", "17000000.ga10b", "gpu-gpc-0")
MODE_STATUS = "var/lib/nvpmodel/status"
MODE_TABLE = "etc/nvpmodel.conf"
FAN_STATUS = "var/lib/nvfancontrol/status"


class Jetson(StrictModel):
    """What decides how fast a Jetson may run; what a file does not tell is None."""

    power_mode_id: Count | None = None
    power_mode: Text | None = Field(default=None, description="the board's own name of the mode")
    gpu_clock_now_MHz: NonNegative | None = None
    gpu_clock_min_MHz: NonNegative | None = None
    gpu_clock_max_MHz: NonNegative | None = Field(
        default=None, description="the power mode's cap, where peaks follow from"
    )
    gpu_governor: Text | None = None
    clocks_locked: bool | None = Field(
        default=None, description="jetson_clocks: the GPU's lowest clock is its highest"
    )
    fan_profile: Text | None = None


def describe_jetson(root: Path = machine.ROOT) -> Jetson | None:
    """Read a Jetson's state; None on any other machine."""
    if not machine.inspect(root).is_jetson:
        return None
    mode = _mode_id(root)
    clocks = gpu_clock_folder(root)
    now, low, high = (_MHz(clocks, name) for name in ("cur_freq", "min_freq", "max_freq"))
    fan = re.search(r"FAN_PROFILE:(\w+)", read_text(root / FAN_STATUS) or "")
    return Jetson(
        power_mode_id=mode,
        power_mode=None if mode is None else power_modes(root).get(mode),
        gpu_clock_now_MHz=now,
        gpu_clock_min_MHz=low,
        gpu_clock_max_MHz=high,
        gpu_governor=read_text(clocks / "governor") if clocks else None,
        clocks_locked=None if low is None or high is None else low == high,
        fan_profile=fan[1] if fan else None,
    )


def power_modes(root: Path = machine.ROOT) -> dict[int, str]:
    """The board's table of power modes: id -> name."""
    table = read_text(root / MODE_TABLE) or ""
    found = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", table)
    return {int(number): name for number, name in found}


def gpu_clock_folder(root: Path = machine.ROOT) -> Path | None:
    """The devfreq folder of a Jetson's GPU, by any of the names it has had."""
    folders = (root / "sys/class/devfreq" / name for name in GPU_CLOCKS)
    return next((folder for folder in folders if folder.is_dir()), None)


def _mode_id(root: Path) -> int | None:
    """The mode in force: 'pmode:0002 fmode:quiet'."""
    match = re.search(r"pmode:(\d+)", read_text(root / MODE_STATUS) or "")
    return int(match[1]) if match else None


def _MHz(folder: Path | None, name: str) -> float | None:
    hertz = None if folder is None else read_int(folder / name)
    return None if hertz is None else hertz / 1e6
