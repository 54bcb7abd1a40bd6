"""Headline cards: for each group that is ranked together, what INT4 gained and what it lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgebench.profiles import EXTERNAL
from edgebench.record import Record, kernel_title
from edgebench.units import DASH, format_fraction, format_ms, format_number
from edgebench_reports.entries import SCENARIOS, Entry, Submission
from edgebench_reports.learning_cost import cost_text, costs_of
from edgebench_reports.tables import interval_text

MAX_CARDS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One kernel's figure, drawn as a share of the larger one."""

    kernel: str
    title: str
    text: str
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The first of a group beside its own reference."""

    workload: str
    scenario: str
    label: str
    candidate: str
    speedup: str
    interval: str
    measure: str
    bars: tuple[Bar, ...]
    accuracy: str
    ratio: str
    place: str
    system: str
    link: str
    not_closed: tuple[str, ...] = ()
    """What disqualifies it from the closed track."""
    transform: str = ""
    """What was done to an open model."""
    costs: tuple[str, ...] = ()
    """What its training or its search cost."""


def make_cards(
    entries: Sequence[Entry], page: Callable[[Submission], str] | None = None
) -> list[Card]:
    """Return a card for the first of each ranked group, single-stream before offline.

    page: where a run is described, if not on the same page.
    """
    first = [entry for entry in entries if entry.rank == 1]
    first.sort(key=lambda e: (e.record.workload.name, SCENARIOS.index(e.record.scenario), e.group))
    return [
        replace(_card(entry), link=page(entry.submission)) if page else _card(entry)
        for entry in first[:MAX_CARDS]
    ]


def _card(entry: Entry) -> Card:
    record, result = entry.record, entry.result
    measure, bars = _bars(entry)
    bounds = result.speedup_ci95
    return Card(
        workload=record.workload.name,
        scenario=record.scenario,
        label=" · ".join(_label(record)),
        candidate="INT4" if result.kernel == "int4" else kernel_title(result.kernel),
        speedup=DASH if result.speedup is None else f"{result.speedup:.2f}×",
        interval=f"{interval_text(bounds)} (95 %)" if bounds else "no interval",
        measure=measure,
        bars=bars,
        accuracy=format_fraction(result.accuracy),
        ratio=format_fraction(result.accuracy_ratio),
        place=_place(entry),
        system=record.system,
        link=f"#{entry.submission.anchor}",
        not_closed=tuple(record.not_closed),
        transform=entry.open_transform,
        costs=tuple(cost_text(cost) for cost in costs_of(entry)),
    )


def _label(record: Record) -> list[str]:
    label = [record.track, record.profile, record.host.device]
    return [*label, kernel_title(EXTERNAL)] if record.external else label


def _bars(entry: Entry) -> tuple[str, tuple[Bar, ...]]:
    pair = [(r.kernel, r) for r in (entry.reference, entry.result) if r is not None]
    if entry.record.scenario == "single-stream":
        measure = "p90 latency, shorter is faster"
        values = [(kernel, result.latency_p90_ms) for kernel, result in pair]
        texts = [format_ms(value) for _, value in values]
    else:
        measure = "samples per second, longer is faster"
        values = [(kernel, result.samples_per_s) for kernel, result in pair]
        texts = [format_number(value) for _, value in values]
    largest = max((value for _, value in values if value), default=1.0)
    return measure, tuple(
        Bar(
            kernel=kernel,
            title=kernel_title(kernel),
            text=text,
            percent=round(100 * (value or 0.0) / largest, 1),
        )
        for (kernel, value), text in zip(values, texts, strict=True)
    )


def _place(entry: Entry) -> str:
    """Say how near INT4 came to the ceiling that bounds the scenario, or why that is unknown."""
    place = entry.result.roofline
    if entry.record.scenario == "single-stream":
        percent, what = place.percent_of_bandwidth, "bandwidth"
    else:
        percent, what = place.percent_of_compute, "compute"
    if percent is not None:
        return f"{percent:.0f} % of the measured {what}"
    if place.bytes_per_token is None:
        return f"% of {what}: {place.reason or 'not derived'}"
    reasons = (place.reason or "").split("; ")
    said = next((r.partition(": ")[2] for r in reasons if r.startswith(f"{what}: ")), "not derived")
    return f"% of {what}: {said}"
