"""Power: energy is integrated again from power.csv, or is absent with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench import layout
from edgebench.checker.derivation import equal
from edgebench.checker.subject import Subject
from edgebench.conditions_verdict import judge
from edgebench.derive import block_windows
from edgebench.energy_metrics import energy_metrics
from edgebench.errors import BundleError
from edgebench.findings import Finding, finding
from edgebench.meters import powercsv
from edgebench.meters.integrate import recompute
from edgebench.meters.powercsv import Log
from edgebench.record import Energy, EnergyMetrics, KernelResult, PhaseEnergy, Sustained
from edgebench.sustained import sustained_rates
from edgebench.verdict import disagreements

COMPARED = ("status", "joules", "mean_power_W", "coverage")
# What records of this version state beside; a record without a method is of an older one.
STATED = (
    "method",
    "readings",
    "error_bound_percent",
    "peak_power_W",
    "p95_power_W",
    "idle_before_W",
    "idle_after_W",
    "above_idle_joules",
)


def check_energy(subject: Subject) -> Iterator[Finding]:
    """P-01, P-04: energy and what it bought follow from power.csv over the kernel's own blocks."""
    try:
        log = powercsv.load(subject.bundle.power_csv or Path(layout.POWER))
    except BundleError:
        log = {}  # a bundle without a meter may be without the file; with one it must integrate
        if any(result.energy.meter for result in subject.bundle.record.results):
            yield finding("P-01", "a power.csv that can be integrated", "none that can be read")
            return
    for result in subject.bundle.record.results:
        yield from _check_result(subject, result, log)


def _check_result(subject: Subject, result: KernelResult, log: Log) -> Iterator[Finding]:
    windows = block_windows(subject.bundle.samples, result.kernel)
    idle = subject.bundle.record.idle_windows
    for energy in (result.energy, *result.energy_beside):
        try:
            expected = recompute(log, windows, energy, idle)
        except (ValueError, ArithmeticError) as err:
            yield finding("P-01", "a power.csv that can be integrated", err)
            return
        names = COMPARED if energy.method is None else COMPARED + STATED
        for name in names:
            came, right = getattr(energy, name), getattr(expected, name)
            if not equal(came, right):
                what = f"{result.kernel} energy {name} of {energy.meter} = {right}"
                yield finding("P-01", what, came)
    if result.energy_metrics is not None:
        yield from _check_metrics(subject, result, log)


def _check_metrics(subject: Subject, result: KernelResult, log: Log) -> Iterator[Finding]:
    expected = energy_metrics(
        subject.bundle.record.scenario,
        subject.rows(result.kernel, "performance"),
        subject.workload.prompt_tokens,
        result.energy,
        log,
    )
    came = result.energy_metrics
    for name in EnergyMetrics.model_fields:
        if name != "phases_reason" and not _same(
            getattr(came, name), getattr(expected, name, None)
        ):
            text = f"{result.kernel} {name} = {getattr(expected, name, None)}"
            yield finding("P-04", text, getattr(came, name))


def _same(came: object, right: object) -> bool:
    """Whether two metrics are equal: numbers up to the JSON round trip, phases field by field."""
    if isinstance(came, PhaseEnergy) and isinstance(right, PhaseEnergy):
        names = (name for name in PhaseEnergy.model_fields if name != "reason")
        return all(equal(getattr(came, name), getattr(right, name)) for name in names)
    return equal(came, right)


def check_idle(subject: Subject) -> Iterator[Finding]:
    """P-05: nothing ran while idle power was measured."""
    for start_ns, end_ns in subject.bundle.record.idle_windows:
        if end_ns <= start_ns:
            yield finding("P-05", "an idle window that lasts", f"{start_ns} to {end_ns}")
        for row in subject.bundle.samples:
            if row.issued_ns < end_ns and row.completed_ns > start_ns:
                came = f"{row.kernel} query {row.query} in it"
                yield finding("P-05", "an idle window in which nothing ran", came)
                break


def check_agreement(subject: Subject) -> Iterator[Finding]:
    """P-03: meters of the same thing that disagree are a warning, and both are shown."""
    for result in subject.bundle.record.results:
        for text in disagreements(result):
            yield finding("P-03", f"meters of {result.kernel} that agree", text)


def check_absence(subject: Subject) -> Iterator[Finding]:
    """P-02: what was not measured is null with a reason; what was names its meter."""
    results = subject.bundle.record.results
    energies = [one for result in results for one in (result.energy, *result.energy_beside)]
    if not any(energy.meter for energy in energies):
        yield from _unread(subject.bundle.power_csv)
    for result in subject.bundle.record.results:
        for energy in (result.energy, *result.energy_beside):
            fault = _fault(energy)
            if fault:
                yield finding("P-02", f"{result.kernel} energy either measured or absent", fault)
        if result.energy_metrics is not None and result.energy.joules is None:
            yield finding("P-02", f"no {result.kernel} metrics of unmeasured energy", "metrics")


def _unread(path: Path | None) -> Iterator[Finding]:
    """A log that no energy is read from holds nothing."""
    header = f"{powercsv.HEADER}\n".encode()
    if path is None:
        return
    with path.open("rb") as file:
        if file.read(len(header) + 1).strip() not in (b"", header.strip()):
            yield finding("P-02", "power.csv without readings where no meter is named", "some")


def _fault(energy: Energy) -> str | None:
    if energy.status == "measured":
        if not energy.joules or energy.meter is None or energy.domain is None:
            return "measured, without joules, meter or domain"
    elif energy.joules is not None or energy.above_idle_joules is not None:
        return f"{energy.status}, with {energy.joules} J"
    elif not energy.reason:
        return f"{energy.status}, without a reason"
    return None


def check_conditions(subject: Subject) -> Iterator[Finding]:
    """P-06, P-07, P-08: what the machine's state says of the run; P-10: that nothing says it."""
    record = subject.bundle.record
    if record.conditions is None:
        yield finding("P-10", "the machine's conditions in the record", "none")
    judgement = judge(record.conditions, record.track)
    for text in (*judgement.invalid_reasons, *judgement.warnings):
        rule, _, came = text.partition(": ")
        yield finding(rule, "a machine that nothing holds back", came)


def check_sustained(subject: Subject) -> Iterator[Finding]:
    """P-09: cold and sustained rates follow from the rows."""
    for result in subject.bundle.record.results:
        came = result.sustained
        if came is None:
            continue
        right = sustained_rates(subject.rows(result.kernel, "performance"))
        for name in Sustained.model_fields:
            expected = getattr(right, name, None)
            if not equal(getattr(came, name), expected):
                yield finding("P-09", f"{result.kernel} {name} = {expected}", getattr(came, name))
