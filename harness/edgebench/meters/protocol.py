"""What a meter is: it probes by reading once, then reads each of its domains on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Kind = Literal["counter", "power"]
TimedReading = tuple[int, str, float]
"""(time on the monotonic clock in ns, domain, raw value)."""

# What one raw unit is in joules (counters) or watts (power).
UNITS: Mapping[str, float] = {"uJ": 1e-6, "mJ": 1e-3, "J": 1.0, "uW": 1e-6, "mW": 1e-3, "W": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One thing that a meter reads: a counter of energy, or a power."""

    name: str
    """One column's name, e.g. 'package-0'; never holds '+' or a comma."""
    covers: str
    """Words for the reader, e.g. 'CPU package'."""
    kind: Kind
    unit: str
    """A key of UNITS."""
    update_s: float
    """How often the hardware publishes a new value."""
    range: int | None = None
    """A counter's modulus in its own unit; None where it does not wrap."""
    limit_W: float | None = None
    """More power than this is a broken reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The outcome of a real reading of every domain."""

    meter: str
    ok: bool
    reason: str
    """Why not, or what is missing although it works; empty if nothing is."""
    domains: tuple[Domain, ...] = ()
    primary: str | None = None
    """The domains to report, joined by '+': only what may be added, never nested or overlapping."""
    covers: str = ""
    """What the reported domains cover together; equal words mean that two meters should agree."""
    beside: tuple[str, ...] = ()
    """Other domains to show; those of the same cover are what the reported one is held against."""


class Meter(Protocol):
    """One power source of the machine."""

    name: str

    def probe(self) -> Probe:
        """Read every domain once; `ok` only if that succeeded, never because a library loaded."""
        ...

    def read(self) -> dict[str, float]:
        """Return domain name -> raw value; a missing key means no reading this time, never 0."""
        ...


@runtime_checkable
class TimedMeter(Protocol):
    """A meter whose readings have times of their own, and may come late."""

    def read_timed(self) -> list[TimedReading]:
        """Return what came since the last call, oldest first; raises as `read` does."""
        ...
