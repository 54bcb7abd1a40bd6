"""Which rails of a Jetson add up to the module; the others are recorded and never added.

The AGX Orin has no total rail, and its four rails may not all be added: VDDQ_VDD2_1V8AO is fed by
VIN_SYS_5V0, which counts it already. An Orin NX or Nano measures its input, VDD_IN, and two rails
inside of it. A set of rails that is not in this table is shown rail by rail, without a total.
Source: NVIDIA Jetson Linux Developer Guide, Jetson Orin series, software-based power consumption
modelling (read in copies); of older boards energymon, jetson/JetsonPowerRails.md. An AGX Xavier is
not in the table: what its six rails leave out or count twice is nowhere stated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MODULE = "module, without its carrier board"
NO_TOTAL = "no known way to total the rails "

TOTALS: Mapping[tuple[str, ...], str] = {
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"): MODULE,  # AGX Orin; VDDQ_VDD2_1V8AO is nested
    ("VDD_IN",): MODULE,  # Orin NX and Nano, Xavier NX, TX2; its other rails are inside
    ("POM_5V_IN",): MODULE,  # the first Nano; POM_5V_GPU and POM_5V_CPU are inside
    ("VIN",): "carrier board's input",  # AGX Thor
}


def total_of(rails: Iterable[str]) -> tuple[str, str] | None:
    """Return (rails joined by '+', what they cover) for a known set of rails, else None."""
    present = set(rails)
    for parts, covers in TOTALS.items():
        if present.issuperset(parts):
            return "+".join(parts), covers
    return None
