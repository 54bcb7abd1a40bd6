"""The Pareto chart: accuracy against latency and energy, the weights' bytes as each mark's area.

A line joins what nothing else beats.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from edgebench_reports.charts import (
    STILL_COLOUR,
    Chart,
    Panel,
    Values,
    areas,
    chart_of,
    log_axis,
    look,
    panel,
    points,
)
from edgebench_reports.entries import Entry, verdict

COSTS = (
    ("ms", "ms per answer", "left is faster"),
    ("energy_J", "J per answer", "left takes less energy"),
)


def cost_ms(entry: Entry) -> float | None:
    """Return ms per answer: the median latency, offline the time of a sample."""
    if entry.record.scenario == "single-stream":
        return entry.result.latency_p50_ms
    rate = entry.result.samples_per_s
    return 1000 / rate if rate else None


def cost_J(entry: Entry) -> float | None:
    """Return joules per answer in the entry's own meter domain; None where nothing was measured."""
    joules, samples = entry.result.energy.joules, entry.result.samples
    return joules / samples if joules and samples else None


def front(values: Values, cost: str) -> Values:
    """Return the rows that no other row beats in both cost and accuracy, cheapest first."""
    best: Values = []
    for row in sorted(values, key=lambda row: (row[cost], -row["exact_match"])):
        if not best or row["exact_match"] > best[-1]["exact_match"]:
            best.append(row)
    return best


def pareto(entries: Sequence[Entry]) -> Chart | None:
    """Return a panel per workload, scenario and cost; energy has one per meter domain.

    Only valid entries and references stand on it; None without any.
    """
    panels = []
    cases: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        cases.setdefault((entry.record.workload.name, entry.record.scenario), []).append(entry)
    for (workload, scenario), own in sorted(cases.items(), key=lambda case: case[0]):
        values = _values(own)
        for cost, title, better in COSTS:
            domains = sorted({row["domain"] for row in values}) if cost == "energy_J" else [None]
            for domain in domains:
                known = [
                    row for row in values
                    if row[cost] is not None and domain in (None, row["domain"])
                ]  # fmt: skip
                if known:
                    name = f"{workload}, {scenario}" + (f", {domain}" if domain else "")
                    panels.append(_panel(name, known, cost, (title, better)))
    if not panels:
        return None
    return Chart(
        name="pareto",
        heading="Accuracy against latency and energy",
        caption="Valid entries and their references; a mark's area grows with the bytes of the "
        "weights as they run. The line joins what no other entry beats in accuracy and cost; "
        "energy is drawn where a meter answered, one panel per domain. The vertical axes do not "
        "start at zero.",
        panels=tuple(panels),
    )


def _values(entries: Sequence[Entry]) -> Values:
    return [
        {
            "scenario": e.record.scenario,
            "system": e.record.system,
            "kernel": e.result.kernel,
            **look(e),
            "executed": e.result.executed_path,
            "transform": e.result.transform,
            "weight_bytes": e.result.weight_bytes,
            "exact_match": 100 * e.result.accuracy,
            "ms": cost_ms(e),
            "energy_J": cost_J(e),
            "domain": f"{e.result.energy.domain} ({e.result.energy.meter})",
        }
        for e in entries
        if e.result.accuracy is not None and verdict(e) in ("valid", "reference")
    ]


def _panel(name: str, values: Values, cost: str, titles: tuple[str, str]) -> Panel:
    title, better = titles
    sizes = areas([row["weight_bytes"] for row in values])
    values = [{**row, "area": area} for row, area in zip(values, sizes, strict=True)]
    x = log_axis(cost, f"{title} ({better})", alt.X)
    y = alt.Y(
        "exact_match:Q",
        scale=alt.Scale(zero=False, padding=24),
        title="exact match, %",
        axis=alt.Axis(tickCount=5),
    )
    tooltip = [
        alt.Tooltip("system:N"),
        alt.Tooltip("kernel:N"),
        alt.Tooltip("transform:N"),
        alt.Tooltip("executed:N"),
        alt.Tooltip("weight_bytes:Q", title="weights, bytes", format=",d"),
        alt.Tooltip(f"{cost}:Q", title=title, format=".4~g"),
        alt.Tooltip("exact_match:Q", title="exact match %", format=".1f"),
    ]
    line = chart_of(front(values, cost)).mark_line(
        interpolate="step-after", opacity=0.6, color=STILL_COLOUR
    )
    layers = line.encode(x=x, y=y) + points(values, x, y, tooltip)
    summary = f"{len(values)} points of exact match against {title}."
    return panel(f"{name}: {title}", summary, layers, len(values))
