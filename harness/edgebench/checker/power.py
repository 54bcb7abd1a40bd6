"""Power: energy is integrated again from power.csv, or is absent with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench import layout
from edgebench.checker.derivation import equal
from edgebench.checker.subject import Subject
from edgebench.derive import block_windows
from edgebench.errors import BundleError
from edgebench.findings import Finding, finding
from edgebench.meters.integrate import recompute
from edgebench.record import Energy

COMPARED = ("status", "joules", "mean_power_W", "coverage")


def check_energy(subject: Subject) -> Iterator[Finding]:
    """P-01: joules, power and coverage follow from power.csv over the kernel's own blocks."""
    path = subject.bundle.power_csv or Path(layout.POWER)
    for result in subject.bundle.record.results:
        windows = block_windows(subject.bundle.samples, result.kernel)
        try:
            expected = recompute(path, windows, result.energy)
        except (BundleError, ValueError, ArithmeticError) as err:
            yield finding("P-01", "a power.csv that can be integrated", err)
            return
        for name in COMPARED:
            came, right = getattr(result.energy, name), getattr(expected, name)
            if not equal(came, right):
                yield finding("P-01", f"{result.kernel} energy {name} = {right}", came)


def check_absence(subject: Subject) -> Iterator[Finding]:
    """P-02: what was not measured is null with a reason; what was names its meter."""
    for result in subject.bundle.record.results:
        fault = _fault(result.energy)
        if fault:
            yield finding("P-02", f"{result.kernel} energy either measured or absent", fault)


def _fault(energy: Energy) -> str | None:
    if energy.status == "measured":
        if not energy.joules or energy.meter is None or energy.domain is None:
            return "measured, without joules, meter or domain"
    elif energy.joules is not None:
        return f"{energy.status}, with {energy.joules} J"
    elif not energy.reason:
        return f"{energy.status}, without a reason"
    return None
