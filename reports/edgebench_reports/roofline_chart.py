"""The roofline chart: per system the ceilings measured on it, and what the kernels reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from edgebench.record import Record, kernel_title
from edgebench.units import format_si
from edgebench_reports.charts import (
    LABELS_MAX_POINTS,
    Chart,
    Panel,
    Values,
    chart_of,
    colour,
    labels,
    log_axis,
    look,
    panel,
    points,
    roof_field,
)
from edgebench_reports.entries import Entry

BANDWIDTH = "read bandwidth"
MARGINS = (4.0, 14.0)  # how far the roofs go beyond the outermost mark; labels stand at the right


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where an entry stands: operations per byte of weights, and operations per second."""

    intensity: float
    rate: float


def place(entry: Entry) -> Mark | str:
    """Return an entry's mark, or why it has none.

    Left of the ridge, where the bandwidth's roof is the lower one, the percentage of bandwidth says
    what was reached; right of it the percentage of compute does.
    """
    roof = entry.result.roofline
    if not roof.bytes_per_token or not roof.operations_per_token:
        return roof.reason or "bytes or operations per token are not known"
    intensity = roof.operations_per_token / roof.bytes_per_token
    bandwidth = entry.ceiling("read_bandwidth")
    peak = entry.ceiling(roof.compute_ceiling) if roof.compute_ceiling else None
    if peak is not None and (bandwidth is None or intensity >= peak.median / bandwidth.median):
        percent, roof_rate = roof.percent_of_compute, peak.median
    elif bandwidth is not None:
        percent, roof_rate = roof.percent_of_bandwidth, intensity * bandwidth.median
    else:
        return roof.reason or "no ceiling was measured"
    if percent is None:
        return roof.reason or "no percentage was derived"
    mark = Mark(intensity=intensity, rate=roof_rate * percent / 100)
    if not all(math.isfinite(value) and value > 0 for value in (mark.intensity, mark.rate)):
        return "nothing was reached"
    return mark


def roofline(entries: Sequence[Entry]) -> Chart | None:
    """Return one panel per system; entries without a place are remarked on, never guessed."""
    panels, remarks = [], []
    for system in sorted({entry.record.system for entry in entries}):
        own = [entry for entry in entries if entry.record.system == system]
        marks = [(entry, mark) for entry in own if isinstance(mark := place(entry), Mark)]
        if marks:
            panels.append(_panel(system, marks))
        remarks += [
            f"{system}, {e.record.workload.name} {e.record.scenario} "
            f"{kernel_title(e.result.kernel)}: {reason}"
            for e in own
            if isinstance(reason := place(e), str)
        ]
    if not panels and not remarks:
        return None
    return Chart(
        name="roofline",
        heading="Roofline",
        caption="Lines are the ceilings that the newest run measured on the device itself, marks "
        "are what the kernels reached under the ceilings of their own run. A mark stands at the "
        "percentage of the roof above it: bandwidth on the slope, arithmetic on the flat.",
        panels=tuple(panels),
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _roofs(record: Record, low: float, high: float) -> Values:
    peaks = {c.ceiling: c for c in record.ceilings if c.ceiling != "read_bandwidth"}
    bandwidth = next((c for c in record.ceilings if c.ceiling == "read_bandwidth"), None)
    rows: Values = []
    if bandwidth is not None:
        tallest = max((p.median for p in peaks.values()), default=high * bandwidth.median)
        text = format_si(bandwidth.median, "B/s")
        end = min(high, tallest / bandwidth.median)
        rows += _line(BANDWIDTH, text, [(x, x * bandwidth.median) for x in (low, end)])
    for name, peak in peaks.items():
        ridge = low if bandwidth is None else peak.median / bandwidth.median
        text = format_si(peak.median, "op/s")
        rows += _line(name, text, [(max(low, min(ridge, high)), peak.median), (high, peak.median)])
    return rows


def _line(roof: str, text: str, ends: Sequence[tuple[float, float]]) -> Values:
    label = f"{roof} {text}"
    field = roof_field(roof)
    return [{"roof": field, "label": label, "intensity": x, "rate": y} for x, y in ends]


def _values(marks: Sequence[tuple[Entry, Mark]]) -> Values:
    return [
        {
            "workload": entry.record.workload.name,
            "scenario": entry.record.scenario,
            "kernel": entry.result.kernel,
            **look(entry),
            "executed": entry.result.executed_path,
            "intensity": mark.intensity,
            "rate": mark.rate,
            "of_bandwidth": entry.result.roofline.percent_of_bandwidth,
            "of_compute": entry.result.roofline.percent_of_compute,
        }
        for entry, mark in marks
    ]


def _panel(system: str, marks: Sequence[tuple[Entry, Mark]]) -> Panel:
    newest = max((entry.record for entry, _ in marks), key=lambda r: r.provenance.started_utc)
    values = _values(marks)
    bandwidth = next((c.median for c in newest.ceilings if c.ceiling == "read_bandwidth"), None)
    peaks = [c.median for c in newest.ceilings if c.ceiling != "read_bandwidth"]
    ridges = [peak / bandwidth for peak in peaks] if bandwidth else []
    reach = [mark.intensity for _, mark in marks] + ridges
    low, high = min(reach) / MARGINS[0], max(reach) * MARGINS[1]
    x = log_axis("intensity", "operations per byte of weights", alt.X)
    y = log_axis("rate", "operations per second", alt.Y)
    layers = _roof_layers(_roofs(newest, low, high), x, y) + points(values, x, y, _tooltip())
    if len(values) <= LABELS_MAX_POINTS:
        layers += labels([v for v in values if v["kernel"] == "int4"], x, y, "workload", 17)
    summary = f"{len(values)} kernels under {len(newest.ceilings)} ceilings measured in the run."
    return panel(system, summary, layers, len(values))


def _roof_layers(roofs: Values, x: alt.X, y: alt.Y) -> alt.LayerChart:
    lines = chart_of(roofs).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour("roof"))
    flat = [row for row in roofs if row["roof"] != roof_field(BANDWIDTH)][1::2]
    slope = [row for row in roofs if row["roof"] == roof_field(BANDWIDTH)][:1]
    right = chart_of(flat).mark_text(align="right", fontSize=11, dy=-7)
    left = chart_of(slope).mark_text(align="left", fontSize=11, dx=14, dy=4)
    shown = {"x": x, "y": y, "color": colour("roof"), "text": alt.Text("label:N")}
    return alt.LayerChart(layer=[lines, right.encode(**shown), left.encode(**shown)])


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("workload:N"),
        alt.Tooltip("scenario:N"),
        alt.Tooltip("kernel:N"),
        alt.Tooltip("executed:N"),
        alt.Tooltip("intensity:Q", title="op per byte", format=".3~s"),
        alt.Tooltip("rate:Q", title="op/s", format=".3~s"),
        alt.Tooltip("of_bandwidth:Q", title="% of bandwidth", format=".1f"),
        alt.Tooltip("of_compute:Q", title="% of compute", format=".1f"),
    ]
