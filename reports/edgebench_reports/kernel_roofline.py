"""The picture of a race of kernels: each contender under the roofs of its own rounds.

Both axes are relative to the machine: across, a kernel's operations per byte of weights over those
at the ridge, where bandwidth and arithmetic take equally long; up, its share of the arithmetic
peak. The roof is min(1, x) for every kernel, whatever its types.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import vl_convert

from edgebench_kernels.race.rows import Row
from edgebench_reports.charts import STILL_COLOUR, Values, chart_of

WIDTH, HEIGHT = 640, 400
LOWEST = 1e-4  # x where nothing was raced
OURS_COLOURS = {"w4a16 EdgeBench": "#e8590c", "w4a8 EdgeBench": "#c2255c"}
PEER_COLOURS = ("#1c7ed6", "#2f9e44", "#9c36b5", "#5c7cfa", "#868e96", "#a0812a")


def draw_kernel_roofline(rows: Sequence[Row]) -> str:
    """SVG of the rows that have both shares; an empty roof if none has."""
    values = _values(rows)
    peers = sorted({value["by"] for value in values} - set(OURS_COLOURS))
    names = [*OURS_COLOURS, *peers]
    colours = [*OURS_COLOURS.values(), *PEER_COLOURS[: len(peers)]]
    low = min((value["x"] for value in values), default=LOWEST) / 2
    high = max(4.0, 2 * max((value["x"] for value in values), default=1.0))
    x = alt.X(
        "x:Q",
        title="operations per byte of weights / those at the ridge",
        scale=alt.Scale(type="log", domain=[low, high]),
        axis=alt.Axis(format="~g", grid=False, tickCount=6),
    )
    y = alt.Y(
        "y:Q",
        title="share of the arithmetic peak",
        scale=alt.Scale(type="log", domain=[low / 4, 1.6]),
        axis=alt.Axis(format="~%", grid=False, tickCount=6),
    )
    roof = chart_of([{"x": low, "y": low}, {"x": 1.0, "y": 1.0}, {"x": high, "y": 1.0}])
    legend = alt.Legend(title=None, labelLimit=300)
    colour = alt.Color("by:N", legend=legend, scale=alt.Scale(domain=names, range=colours))
    marks = chart_of(values).mark_point(filled=True, size=60, opacity=0.85)
    layers = alt.LayerChart(
        layer=[
            roof.mark_line(color=STILL_COLOUR, strokeWidth=2).encode(x=x, y=y),
            marks.encode(x=x, y=y, color=colour, shape=alt.Shape("kind:N", title=None)),
        ]
    ).properties(width=WIDTH, height=HEIGHT, background="white")
    return str(vl_convert.vegalite_to_svg(layers.to_dict()))


def _values(rows: Sequence[Row]) -> Values:
    values: Values = []
    for row in rows:
        if row.percent_of_bandwidth is None or row.percent_of_compute is None:
            continue
        values.append(
            {
                "x": row.percent_of_compute / row.percent_of_bandwidth,
                "y": row.percent_of_compute / 100,
                "by": f"{row.op} {row.peer or 'EdgeBench'}",
                "kind": "EdgeBench" if row.peer is None else "peers",
            }
        )
    return values
