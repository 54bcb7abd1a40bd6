"""The chart of speed against quality: a line joins the kernels of one run."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from edgebench_reports.charts import (
    LABELS_MAX_POINTS,
    STILL_COLOUR,
    Chart,
    Panel,
    Values,
    chart_of,
    labels,
    log_axis,
    look,
    panel,
    points,
)
from edgebench_reports.entries import Entry

QUALITIES = (
    ("exact_match", "exact match, %", "higher is better"),
    ("call_nll", "call NLL, nats per token", "lower is better"),
)


def speed_accuracy(entries: Sequence[Entry]) -> Chart | None:
    """Return a panel per workload and quality metric; None without any measured speed."""
    panels = []
    for workload in sorted({entry.record.workload.name for entry in entries}):
        values = _values([e for e in entries if e.record.workload.name == workload])
        for field, title, better in QUALITIES:
            known = [value for value in values if value[field] is not None]
            if known:
                panels.append(_panel(workload, known, field, (title, better)))
    if not panels:
        return None
    return Chart(
        name="speed",
        heading="Speed against accuracy",
        caption="Further right is faster. A line joins fp16 and INT4 of one run, the figure at its "
        "end is the speedup. The vertical axes do not start at zero.",
        panels=tuple(panels),
    )


def _values(entries: Sequence[Entry]) -> Values:
    return [
        {
            "pair": e.submission.anchor,
            "scenario": e.record.scenario,
            "system": e.record.system,
            "kernel": e.result.kernel,
            **look(e),
            "executed": e.result.executed_path,
            "tokens_per_s": e.result.tokens_per_s,
            "exact_match": None if e.result.accuracy is None else 100 * e.result.accuracy,
            "call_nll": e.result.call_nll,
            "speedup": "" if e.result.speedup is None else f"{e.result.speedup:.2f}×",
        }
        for e in entries
        if e.result.tokens_per_s
    ]


def _panel(workload: str, values: Values, field: str, titles: tuple[str, str]) -> Panel:
    title, better = titles
    x = log_axis("tokens_per_s", "output tokens per second", alt.X)
    y = alt.Y(f"{field}:Q", scale=alt.Scale(zero=False, padding=24), title=f"{title} ({better})",
              axis=alt.Axis(tickCount=5))  # fmt: skip
    tooltip = [
        alt.Tooltip("system:N"),
        alt.Tooltip("scenario:N"),
        alt.Tooltip("kernel:N"),
        alt.Tooltip("executed:N"),
        alt.Tooltip("tokens_per_s:Q", title="tokens/s", format=".4~g"),
        alt.Tooltip("exact_match:Q", title="exact match %", format=".1f"),
        alt.Tooltip("call_nll:Q", title="call NLL", format=".4f"),
        alt.Tooltip("speedup:N"),
    ]
    line = chart_of(values).mark_line(opacity=0.5, color=STILL_COLOUR)
    layers = line.encode(x=x, y=y, detail="pair:N") + points(values, x, y, tooltip)
    if len(values) <= LABELS_MAX_POINTS:
        layers += labels(values, x, y, "speedup", -13)
    summary = f"{len(values)} points of {title} against output tokens per second."
    return panel(f"{workload}: {title.partition(',')[0]}", summary, layers, len(values))
