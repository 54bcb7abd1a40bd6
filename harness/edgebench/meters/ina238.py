"""INA238: the input of an AGX Thor's carrier board, VIN, through hwmon; readable without root.

The chip multiplies by itself, so one file has the power. VIN feeds every rail of the board: it
replaces them, and nothing is added to it.
"""

from __future__ import annotations

from pathlib import Path

from edgebench import machine
from edgebench.meters import hwmon
from edgebench.meters.protocol import Domain, Probe
from edgebench.meters.rails import TOTALS

CHIP = "ina238"
RAIL = "VIN"
NO_CHIPS = "no INA238 power chip on the I2C bus"


class Ina238Meter:
    """Reads the board's input power."""

    name = "ina238"

    def __init__(self, root: Path = machine.ROOT) -> None:
        self._root = root
        self._rails: dict[str, hwmon.Reader] = {}

    def probe(self) -> Probe:
        """Read the input once; two such chips have no known meaning, so they are refused."""
        folders = list(hwmon.chips(self._root, CHIP))
        if len(folders) != 1:
            reason = f"{len(folders)} INA238 chips, of which none is known to be the input"
            return Probe(meter=self.name, ok=False, reason=reason if folders else NO_CHIPS)
        self._rails, missing = hwmon.try_read({RAIL: (folders[0] / "power1_input",)})
        domain = Domain(
            name=RAIL,
            covers=TOTALS[(RAIL,)],
            kind="power",
            unit="uW",
            update_s=hwmon.update_s(folders[0]),
            limit_W=hwmon.LIMIT_W,
        )
        ok = bool(self._rails)
        return Probe(
            meter=self.name,
            ok=ok,
            reason="; ".join(missing),
            domains=(domain,) if ok else (),
            primary=RAIL if ok else None,
            covers=domain.covers,
        )

    def read(self) -> dict[str, float]:
        """Return the input power in uW, or nothing where the chip does not answer."""
        return hwmon.read_all(self._rails, 1)
