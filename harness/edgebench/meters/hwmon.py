"""The power chips of a Jetson's I2C bus, as Linux' hwmon shows them.

    /sys/bus/i2c/devices/1-0040/name                          ina3221
                               /hwmon/hwmon3/in1_label        VDD_GPU_SOC
                                            /in1_input        19016     mV
                                            /curr1_input      480       mA
                                            /update_interval  18        ms

hwmon numbers move between boots, so chips are found by their name. JetPack 4 shows the same chips
through another driver: `iio`.
Source: Linux Documentation/hwmon/ina3221.rst and ina238.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgebench.machine import read_int, read_text

LIMIT_W = 400.0  # three times the largest module (Thor, 130 W): above it a reading is broken
FALLBACK_UPDATE_S = 0.1
UNUSED = ("", "NC")  # a channel that the board does not connect

Reader = tuple[Path, ...]
"""The files whose product is a power: volts and amperes, or one file that has it."""


def chips(root: Path, name: str) -> Iterator[Path]:
    """Yield the hwmon folders of every chip of that name on the I2C bus."""
    for device in sorted((root / "sys/bus/i2c/devices").glob("*")):
        if name in (read_text(device / "name") or ""):
            yield from sorted((device / "hwmon").glob("hwmon*"))


def rail_name(label: str) -> str:
    """Return a rail's label as a domain may be called."""
    return re.sub(r"[^\w.-]", "_", label)


def update_s(folder: Path) -> float:
    """How often a chip converts all of its channels."""
    interval_ms = read_int(folder / "update_interval")
    return interval_ms / 1000 if interval_ms else FALLBACK_UPDATE_S


def read_product(files: Reader) -> int:
    """Read each file now and multiply; OSError or ValueError where one gives no number."""
    product = 1
    for path in files:
        product *= int(path.read_text())
    return product


def try_read(rails: Mapping[str, Reader]) -> tuple[dict[str, Reader], list[str]]:
    """Read every rail once; return those that answered, and why the others did not."""
    answering, missing = {}, []
    for name, files in rails.items():
        try:
            read_product(files)
        except (OSError, ValueError) as err:
            missing.append(f"{name}: {type(err).__name__} on {files[-1].name}")
        else:
            answering[name] = files
    return answering, missing


def read_all(rails: Mapping[str, Reader], divisor: int) -> dict[str, float]:
    """Read every rail, in the files' product over `divisor`; what does not answer is left out."""
    values = {}
    for name, files in rails.items():
        try:
            values[name] = read_product(files) / divisor
        except (OSError, ValueError):
            continue
    return values
