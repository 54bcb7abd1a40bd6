"""The night's reports: a page, Markdown for a CI's summary, and JUnit for its test tab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from edgebench import __version__
from edgebench import markdown as table
from edgebench.codec import make_folder, write_atomic
from edgebench.findings import printable
from edgebench.nightly.creep import Creep
from edgebench.nightly.history import HistoryRow
from edgebench.nightly.night import Night, NightCell
from edgebench.paired import percent
from edgebench.units import DASH, format_duration
from edgebench_reports.compare import effect_text
from edgebench_reports.render import render_still
from edgebench_reports.vectors import Line, lines, whisker

HTML, MARKDOWN, JUNIT = "report.html", "report.md", "junit.xml"
HEADINGS = (
    "cell",
    "head over baseline",
    "pairs",
    "counts from",
    "could have seen",
    "state",
)
FAILURES = ("regression",)
SKIPPED = ("unsure", "suspicious", "insufficient data", "void")
SHOWN_NIGHTS = 60


def write_night(night: Night, history: Sequence[HistoryRow], out: Path) -> Path:
    """Write the three reports into a folder and return the page."""
    make_folder(out)
    write_atomic(out / MARKDOWN, (night_markdown(night) + "\n").encode())
    write_atomic(out / JUNIT, night_junit(night))
    write_atomic(out / HTML, night_html(night, history).encode())
    return out / HTML


def headline(night: Night) -> str:
    """Say the night in one line."""
    if night.is_void:
        return "VOID: a control moved, which nothing of ours can move; no cell is judged"
    states = [cell.state for cell in night.cells]
    found = {state: states.count(state) for state in dict.fromkeys(states)}
    return ", ".join(f"{count} {state}" for state, count in found.items())


def _row(cell: NightCell) -> tuple[str, ...]:
    visible = DASH if cell.visible is None else f"{percent(cell.visible):.1f} %"
    return (
        cell.name,
        effect_text(cell.effect),
        str(cell.effect.pairs if cell.effect else 0),
        f"{percent(cell.limit):.1f} % ({cell.limit_reason})",
        visible,
        cell.state,
    )


def creep_text(creep: Creep) -> str:
    """Say a creep with the range in which to look."""
    return (
        f"slow creep: {creep.cell} {percent(creep.change):+.1f} % since {creep.first_night} "
        f"({creep.first_head}) until {creep.last_night} ({creep.last_head})"
    )


def _facts(night: Night) -> list[tuple[str, str]]:
    return [
        ("night", night.night_utc),
        ("system", night.system),
        ("head", night.head),
        ("baseline", night.baseline),
        ("pairs of fresh processes", str(night.pairs)),
        ("measured for", format_duration(night.duration_s)),
    ]


def night_markdown(night: Night) -> str:
    """Return the night as Markdown."""
    facts = ", ".join(f"{name} {value}" for name, value in _facts(night))
    out = [f"## Nightly {night.suite}: {headline(night)}", "", printable(facts), ""]
    out += table.header(HEADINGS)
    out += [table.row(_row(cell)) for cell in (*night.cells, *night.controls)]
    said = [*(creep_text(creep) for creep in night.creeps), *night.notes]
    out += ["", *(f"- {printable(note)}" for note in said)] if said else []
    return "\n".join(out)


def night_junit(night: Night) -> bytes:
    """Return the night as JUnit XML: a regression is a failure, what is left open is skipped."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"edgebench nightly {night.suite}",
        tests=str(len(night.cells)),
        failures=str(sum(cell.state in FAILURES for cell in night.cells)),
        skipped=str(sum(cell.state in SKIPPED for cell in night.cells)),
        errors="0",
        time=f"{night.duration_s:.1f}",
        timestamp=night.night_utc.removesuffix("Z"),
    )
    for cell in night.cells:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"edgebench.{night.suite}", name=cell.name
        )
        text = printable(" | ".join(_row(cell)[1:]))
        if cell.state in FAILURES:
            ElementTree.SubElement(case, "failure", message=cell.state).text = text
        elif cell.state in SKIPPED:
            ElementTree.SubElement(case, "skipped", message=f"{cell.state}: {text}")
    creeps = "\n".join(creep_text(creep) for creep in night.creeps)
    ElementTree.SubElement(suite, "system-out").text = printable(creeps)
    encoded: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return encoded


def night_html(night: Night, history: Sequence[HistoryRow]) -> str:
    """Return the night as a page without a script."""
    rows = [
        {"cells": _row(cell), "tone": cell.state.partition(" ")[0], "plot": _plot(cell)}
        for cell in (*night.cells, *night.controls)
    ]
    plots = [(cell.name, _trend(night, cell.name, history)) for cell in night.cells]
    values = {
        "title": f"EdgeBench nightly: {night.suite}",
        "headline": headline(night),
        "facts": _facts(night),
        "headings": HEADINGS,
        "rows": rows,
        "creeps": [creep_text(creep) for creep in night.creeps],
        "notes": night.notes,
        "trends": [(name, plot) for name, plot in plots if plot],
        "version": __version__,
    }
    return render_still("nightly", values)


def _plot(cell: NightCell) -> object:
    if cell.effect is None or cell.effect.interval is None:
        return None
    low, high = (percent(bound) for bound in cell.effect.interval)
    return whisker(low, percent(cell.effect.estimate), high, limit=percent(cell.limit))


def _trend(night: Night, cell: str, history: Sequence[HistoryRow]) -> object:
    known = [
        row.change_percent
        for row in history
        if (row.cell, row.system, row.suite, row.kind) == (cell, night.system, night.suite, "night")
        and row.change_percent is not None and row.state != "void"
    ][-SHOWN_NIGHTS:]  # fmt: skip
    points = [(float(number), value) for number, value in enumerate(known, start=1)]
    series = [Line(name=cell, tone="int4", points=points)]
    return lines(series, "night", "time over baseline, %")
