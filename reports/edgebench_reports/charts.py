"""The charts' shared ground: colours, axes, and what a panel is on the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import altair as alt
import vl_convert

from edgebench_reports.entries import Entry

Values = list[dict[str, Any]]

# Readable on white and on near-black alike; fp16 also differs in brightness.
KERNEL_COLOURS = {"fp16": "#8a94a0", "int4": "#e8590c", "open": "#5f3dc4", "external": "#0c8599"}
ROOF_COLOURS = {
    "read bandwidth": "#1c7ed6",
    "int8": "#2f9e44",
    "fp16": "#e64980",
    "bf16": "#9c36b5",
    "fp32": "#5c7cfa",
}
SCENARIO_SHAPES = {"single-stream": "circle", "offline": "square"}
OPEN_SHAPES = {"open, single-stream": "triangle-up", "open, offline": "diamond"}
POINT_AREA = 110
SMALLEST_AREA, LARGEST_AREA = 50, 350  # of points whose area says how much there is, in pixels
STILL_COLOUR = "#7a828c"
STILL_WIDTH = 420
STILL_MAX_POINTS = 300
LABELS_MAX_POINTS = 12  # more labels than this overlap
HEIGHT = 260


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart: its title, what it shows in words, its Vega-Lite, and a picture of it."""

    title: str
    summary: str
    spec: dict[str, Any]
    still: str | None
    """A data: URL for readers without JavaScript; None where it would be too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A heading, an explanation and one panel or several."""

    name: str
    heading: str
    caption: str
    panels: tuple[Panel, ...]
    remarks: tuple[str, ...] = ()


def chart_of(values: Values) -> alt.Chart:
    """Return an empty chart of some rows."""
    return alt.Chart(alt.InlineData(values=values))


Axis = TypeVar("Axis", alt.X, alt.Y)


def log_axis(field: str, title: str, channel: type[Axis]) -> Axis:
    """Return a logarithmic axis that says plain numbers."""
    axis = alt.Axis(format="~s", tickCount=5, grid=False)
    scale = alt.Scale(type="log", nice=False, padding=24)
    return channel(f"{field}:Q", scale=scale, title=title, axis=axis)


def roof_field(name: str) -> str:
    """Name a roof on the colour scale, where fp16 is a kernel already."""
    return f"roof: {name}"


def colour(field: str) -> alt.Color:
    """Return the one colour scale, so that layers of kernels and of roofs can share it."""
    roofs = {roof_field(name): colour for name, colour in ROOF_COLOURS.items()}
    colours = {**KERNEL_COLOURS, **roofs}
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=None)


def look(entry: Entry) -> dict[str, str]:
    """The fields of an entry's mark: colour and shape tell open models from the closed track's."""
    shape = entry.record.scenario
    if not entry.open_transform:
        return {"mark": entry.result.kernel, "shape": shape}
    return {"mark": "open", "shape": f"open, {shape}"}


def areas(amounts: Sequence[int | None]) -> list[float]:
    """Areas of points, in pixels, that grow with amounts; an unknown one has the usual size."""
    largest = max((one for one in amounts if one), default=0)
    return [
        POINT_AREA
        if one is None or not largest
        else SMALLEST_AREA + (LARGEST_AREA - SMALLEST_AREA) * one / largest
        for one in amounts
    ]


def points(values: Values, x: alt.X, y: alt.Y, tooltip: Sequence[alt.Tooltip]) -> alt.Chart:
    """Return the entries' marks by the fields of `look`, and of their `area` where they have one.

    Colour says the kernel, or that the model is an open one; shape the scenario, and so again.
    """
    known = {**SCENARIO_SHAPES, **OPEN_SHAPES}
    shapes = alt.Scale(domain=list(known), range=list(known.values()))
    marks: alt.Chart = (
        chart_of(values)
        .mark_point(size=POINT_AREA, filled=True, opacity=0.95)
        .encode(
            x=x,
            y=y,
            color=colour("mark"),
            shape=alt.Shape("shape:N", scale=shapes, legend=None),
            tooltip=list(tooltip),
        )
    )
    if values and "area" in values[0]:
        marks = marks.encode(size=alt.Size("area:Q", scale=None, legend=None))
    return marks


def labels(values: Values, x: alt.X, y: alt.Y, field: str, dy: int) -> alt.Chart:
    """Return texts so many pixels below points."""
    mark = chart_of(values).mark_text(dy=dy, fontSize=11, fontWeight=600, color=STILL_COLOUR)
    texts: alt.Chart = mark.encode(x=x, y=y, text=alt.Text(f"{field}:N"))
    return texts


def panel(title: str, summary: str, layers: alt.LayerChart, count: int) -> Panel:
    """Finish a panel: it fills its place on the page; its picture has a fixed size."""
    plain = layers.properties(
        width="container",
        height=HEIGHT,
        description=f"{title}. {summary}",
        background="transparent",
    ).configure_view(stroke=None)
    spec = plain.to_dict()
    return Panel(
        title=title,
        summary=summary,
        spec=spec,
        still=_still(spec) if count <= STILL_MAX_POINTS else None,
    )


def _still(spec: dict[str, Any]) -> str:
    line = {"labelColor": STILL_COLOUR, "titleColor": STILL_COLOUR, "domainColor": STILL_COLOUR,
            "tickColor": STILL_COLOUR, "gridColor": "#8884"}  # fmt: skip
    config = {**spec.get("config", {}), "axis": line}
    svg = vl_convert.vegalite_to_svg({**spec, "width": STILL_WIDTH, "config": config})
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
