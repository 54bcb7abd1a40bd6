"""`power.csv`: what the sampler appends and the integration reads back; nothing else is needed.

    t_ns,meter,domain,kind,value,unit
    81220113,rapl,package-0,range,262143328850,uJ     declared once: the counter's modulus
    81220113,rapl,package-0,limit,2000.0,W            declared once: more is a broken reading
    81220113,rapl,package-0,period,0.1,s              declared once: the time between two readings
    81220951,rapl,package-0,counter,104857600,uJ      a reading; t_ns is the monotonic clock's
    81221002,nvml,gpu0.power,power,65012,mW

Values are what the hardware gave, in its own unit, so that a counter keeps every bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgebench.errors import BundleError
from edgebench.meters.protocol import UNITS, Domain, Kind

HEADER = "t_ns,meter,domain,kind,value,unit"
_ROW = re.compile(
    r"(\d{1,19}),([\w.-]{1,100}),([\w.-]{1,100}),(counter|power|range|limit|period),"
    r"(-?\d[\d.eE+-]{0,40}),(uJ|mJ|J|uW|mW|W|s)",
    re.ASCII,
)


@dataclass(slots=True, kw_only=True)
class Series:
    """Every reading of one domain, in its raw unit, with what was declared about it."""

    kind: Kind | None = None
    unit: str = ""
    t_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    range: float | None = None
    limit_W: float | None = None
    period_s: float | None = None


Log = Mapping[tuple[str, str], Series]
"""What `load` returns."""


def declaration(t_ns: int, meter: str, domain: Domain, period_s: float) -> str:
    """Return the lines that declare a domain before its first reading."""
    rows = [("period", max(period_s, domain.update_s), "s")]
    if domain.limit_W is not None:
        rows.insert(0, ("limit", domain.limit_W, "W"))
    if domain.range is not None:
        rows.insert(0, ("range", domain.range, domain.unit))
    return "".join(f"{t_ns},{meter},{domain.name},{kind},{v!r},{u}\n" for kind, v, u in rows)


def reading(t_ns: int, meter: str, domain: Domain, value: float) -> str:
    """Return the line of one reading."""
    return f"{t_ns},{meter},{domain.name},{domain.kind},{value!r},{domain.unit}\n"


def load(path: Path) -> dict[tuple[str, str], Series]:
    """Read `power.csv` into one series per (meter, domain); BundleError names a bad line."""
    found: dict[tuple[str, str], Series] = {}
    try:
        with path.open(encoding="ascii", newline="\n") as lines:
            if lines.readline(200).rstrip("\n") != HEADER:
                raise BundleError(f"[{path.name}] expected the header {HEADER!r} in line 1")
            for number, line in enumerate(lines, start=2):
                match = _ROW.fullmatch(line.rstrip("\n"))
                if match is None or not _append(found, match):
                    raise BundleError(
                        f"[{path.name}] expected {HEADER} in line {number}, got {line[:80]!r}"
                    )
    except (OSError, UnicodeDecodeError) as err:
        raise BundleError(f"[{path.name}] expected a readable ASCII file, got {err}") from err
    return found


def _append(found: dict[tuple[str, str], Series], row: re.Match[str]) -> bool:
    """Add one row to its series; return False for a number or a unit that makes no sense."""
    t_ns, meter, domain, kind, text, unit = row.groups()
    try:
        value = int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return False
    if not math.isfinite(value):
        return False
    series = found.setdefault((meter, domain), Series())
    if kind == "range":
        series.range = value
    elif kind == "limit":
        series.limit_W = value
    elif kind == "period":
        series.period_s = value
    else:
        known = series.kind in (None, kind) and series.unit in ("", unit) and unit in UNITS
        if not known or (kind == "counter") != unit.endswith("J"):
            return False
        series.kind = "counter" if kind == "counter" else "power"
        series.unit = unit
        series.t_ns.append(int(t_ns))
        series.values.append(value)
    return True
