"""Evidence: what a submission's page shows of the raw rows, small enough to keep ten thousand of.

Only a summary for eyes; every published number is derived by the checker from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgebench import layout
from edgebench.bundle import Bundle
from edgebench.bundle_reader import parse_checksums
from edgebench.codec import read_capped
from edgebench.meters import powercsv
from edgebench.meters.protocol import UNITS
from edgebench.record import Count, Kernel, Ledger, NonNegative, Sha256, StrictModel, Text
from edgebench.scenarios import mode_rows, span_ns
from edgebench.units import NS_PER_S, ms_from_ns

QUANTILES = 101  # of latencies: the 0th to the 100th percentile
TIMELINE_POINTS = 200  # of one domain's power
LEARNING, SEARCHING = ("distill", "finetune"), "nas"  # steps whose cost the ledger tells
COUNTER_PERIODS, MIN_PERIOD_S = 4, 0.05


class Latencies(StrictModel):
    """One kernel's distribution: of answers' latencies, or offline of the rounds' durations."""

    kernel: Kernel
    quantiles_ms: list[float]
    count: Count


class Timeline(StrictModel):
    """One meter domain over the run; time counts from its first reading."""

    meter: Text
    domain: Text
    t_s: list[NonNegative]
    power_W: list[float]


class BundleFile(StrictModel):
    """One file of a bundle, as its SHA256SUMS names it."""

    name: Text
    size_bytes: Count
    sha256: Sha256


class Step(StrictModel):
    """One entry of the ledger, its parameters in words."""

    transform: Text
    parameters: Text
    before_sha256: Sha256
    after_sha256: Sha256


class LearningCost(StrictModel):
    """What one step of an open model cost, as its ledger says; what is not there is null."""

    transform: Text
    examples: Count | None = None
    steps: Count | None = None
    cpu_s: NonNegative | None = None
    device: Text | None = None
    evaluations: Count | None = None
    """Subnets that a search evaluated directly."""


class Evidence(StrictModel):
    """What the page of a submission draws and lists beyond its record."""

    steps: tuple[Step, ...] = ()
    costs: tuple[LearningCost, ...] = ()
    latencies: tuple[Latencies, ...] = ()
    power: tuple[Timeline, ...] = ()
    files: tuple[BundleFile, ...] = ()


def gather(bundle: Bundle) -> Evidence:
    """Summarise a bundle that the checker has read; BundleError where a file cannot be read."""
    return Evidence(
        steps=tuple(_steps(bundle)),
        costs=tuple(learning_costs(bundle.ledger)),
        latencies=tuple(_latencies(bundle)),
        power=tuple(_power(bundle)),
        files=tuple(_files(bundle)),
    )


def _steps(bundle: Bundle) -> list[Step]:
    return [
        Step(
            transform=step.transform,
            parameters=", ".join(f"{name} {value}" for name, value in step.parameters.items())[
                :2000
            ],
            before_sha256=step.before_sha256,
            after_sha256=step.after_sha256,
        )
        for step in bundle.ledger.steps
    ]


def learning_costs(ledger: Ledger) -> list[LearningCost]:
    """Return the cost of every step that learnt or searched, in the ledger's order."""
    learnt = iter(ledger.open_model.training if ledger.open_model else ())
    found = []
    for name in (step.transform for step in ledger.steps):
        if name in LEARNING and (own := next(learnt, None)) is not None:
            found.append(
                LearningCost(
                    transform=name,
                    examples=own.examples,
                    steps=own.steps,
                    cpu_s=own.cpu_s,
                    device=own.device,
                )
            )
        elif name == SEARCHING and ledger.open_subnet is not None:
            search = ledger.open_subnet.search
            evaluated = search.evaluations + search.finalists
            found.append(LearningCost(transform=name, evaluations=evaluated))
    return found


def _latencies(bundle: Bundle) -> list[Latencies]:
    found = []
    for result in bundle.record.results:
        own = mode_rows(bundle.samples, result.kernel, "performance")
        if bundle.record.scenario == "offline":
            rounds = sorted({row.block for row in own})
            spans = [span_ns([row for row in own if row.block == number]) for number in rounds]
        else:
            spans = [row.completed_ns - row.issued_ns for row in own]
        if spans:
            found.append(
                Latencies(kernel=result.kernel, quantiles_ms=quantiles_ms(spans), count=len(spans))
            )
    return found


def quantiles_ms(spans_ns: Sequence[int]) -> list[float]:
    """Return the 0th to the 100th percentile in ms: measured values, nothing interpolated."""
    ordered = sorted(spans_ns)
    last = len(ordered) - 1
    picked = (ordered[round(last * step / (QUANTILES - 1))] for step in range(QUANTILES))
    return [value for ns in picked if (value := ms_from_ns(ns)) is not None]


def _power(bundle: Bundle) -> list[Timeline]:
    if bundle.power_csv is None:
        return []
    found = []
    for (meter, domain), series in sorted(powercsv.load(bundle.power_csv).items()):
        points = _points(series)
        if len(points) < 2:
            continue
        step = -(-len(points) // TIMELINE_POINTS)
        points = points[::step]
        first = points[0][0]
        found.append(
            Timeline(
                meter=meter,
                domain=domain,
                t_s=[(t_ns - first) / NS_PER_S for t_ns, _ in points],
                power_W=[power for _, power in points],
            )
        )
    return found


def _points(series: powercsv.Series) -> list[tuple[int, float]]:
    """Return (t_ns, W); a counter's are differences over spans that hold several of its updates.

    A reading tells the last update, so that a short span would show steps that no power took.
    """
    if series.kind is None:
        return []
    unit = UNITS[series.unit]
    readings = list(zip(series.t_ns, series.values, strict=True))
    if series.kind == "power":
        return [(t_ns, value * unit) for t_ns, value in readings]
    span_ns = COUNTER_PERIODS * (series.period_s or MIN_PERIOD_S) * NS_PER_S
    points: list[tuple[int, float]] = []
    earlier, before = readings[0]
    for later, after in readings[1:]:
        if after < before:  # it wrapped
            earlier, before = later, after
        elif later - earlier >= span_ns:
            points.append((later, (after - before) * unit * NS_PER_S / (later - earlier)))
            earlier, before = later, after
    return points


def _files(bundle: Bundle) -> list[BundleFile]:
    limit = layout.SIZE_LIMITS[layout.CHECKSUMS]
    sums = parse_checksums(read_capped(bundle.path / layout.CHECKSUMS, limit))
    return [
        BundleFile(name=name, size_bytes=(bundle.path / name).stat().st_size, sha256=sha256)
        for name, sha256 in sorted(sums.items())
    ]
