"""INA3221: the rails of a Jetson, through hwmon or JetPack 4's iio; readable without root.

One step of the AGX's 2 mOhm shunts is 20 mA (0.1 W at 5 V, 0.4 W at 20 V), of the NX's and Nano's
5 mOhm shunts 8 mA: single readings are coarse, their mean over a block is not.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgebench import machine
from edgebench.machine import read_text
from edgebench.meters import hwmon, iio
from edgebench.meters.protocol import Domain, Probe
from edgebench.meters.rails import NO_TOTAL, total_of

CHIP = "ina3221"
NO_CHIPS = "no INA3221 power chip on the I2C bus"
MICRO_PER_MILLI = 1000  # mV x mA is uW


class Ina3221Meter:
    """Reads every connected rail; a module's total is a sum by `rails.TOTALS`."""

    name = "ina3221"

    def __init__(self, root: Path = machine.ROOT) -> None:
        self._root = root
        self._rails: dict[str, hwmon.Reader] = {}

    def probe(self) -> Probe:
        """Read each rail once; a total exists only where every part of it answered."""
        found, update_s = self._find()
        self._rails, missing = hwmon.try_read(found)
        total = total_of(self._rails)
        if self._rails and total is None:
            missing.append(NO_TOTAL + ", ".join(sorted(self._rails)))
        return Probe(
            meter=self.name,
            ok=total is not None,
            reason="; ".join(missing) or ("" if found else NO_CHIPS),
            domains=tuple(
                Domain(
                    name=name,
                    covers=f"rail {name}",
                    kind="power",
                    unit="mW",
                    update_s=update_s,
                    limit_W=hwmon.LIMIT_W,
                )
                for name in self._rails
            ),
            primary=total[0] if total else None,
            covers=total[1] if total else "",
        )

    def read(self) -> dict[str, float]:
        """Return each rail's power in mW; one that does not answer is left out."""
        return hwmon.read_all(self._rails, MICRO_PER_MILLI)

    def _find(self) -> tuple[dict[str, hwmon.Reader], float]:
        """Map rails to (mV file, mA file), as the newer driver shows them, else as JetPack 4's."""
        rails, update_s = self._find_hwmon()
        return (rails, update_s) if rails else iio.rails(self._root)

    def _find_hwmon(self) -> tuple[dict[str, hwmon.Reader], float]:
        """Take channels 1 to 3 alone, the fourth sums their shunts."""
        rails: dict[str, hwmon.Reader] = {}
        update_s = 0.0
        for folder in hwmon.chips(self._root, CHIP):
            update_s = max(update_s, hwmon.update_s(folder))
            for path in sorted(folder.glob("in[123]_label")):
                label = read_text(path) or ""
                number = re.sub(r"\D", "", path.name)
                if label not in hwmon.UNUSED:
                    files = folder / f"in{number}_input", folder / f"curr{number}_input"
                    rails.setdefault(hwmon.rail_name(label), files)
        return rails, update_s
