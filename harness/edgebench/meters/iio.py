"""The power chips of a Jetson under JetPack 4, whose own driver shows them through Linux' iio.

    /sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0          VDD_IN
                                                    /in_voltage0_input    5032    mV
                                                    /in_current0_input    1216    mA
                                                    /polling_delay_0      0 ms

Channels count from 0 and what JetPack 5 and later show through hwmon counts from 1. No such board
was at hand: the layout was read in other meters' sources.
Source: energymon, jetson/ina3221x.c (NVIDIA's staging driver iio/meter/ina3221.c).
"""

from __future__ import annotations

import re
from pathlib import Path

from edgebench.machine import read_text
from edgebench.meters import hwmon

CHIPS = "sys/bus/i2c/drivers/ina3221x/*/iio:device*"


def rails(root: Path) -> tuple[dict[str, hwmon.Reader], float]:
    """Map rails to (mV file, mA file), with the longest time between two conversions in s."""
    found: dict[str, hwmon.Reader] = {}
    update_s = hwmon.FALLBACK_UPDATE_S
    for folder in sorted(root.glob(CHIPS)):
        for path in sorted(folder.glob("rail_name_[012]")):
            label, number = read_text(path) or "", path.name[-1]
            delay = re.match(r"\d+", read_text(folder / f"polling_delay_{number}") or "")
            update_s = max(update_s, int(delay[0]) / 1000 if delay else 0.0)
            if label not in hwmon.UNUSED:
                files = folder / f"in_voltage{number}_input", folder / f"in_current{number}_input"
                found.setdefault(hwmon.rail_name(label), files)
    return found, update_s
