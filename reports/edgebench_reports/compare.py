"""`bench compare`: its words on a terminal, as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebench import __version__
from edgebench import markdown as table
from edgebench.checker import known_workload
from edgebench.codec import make_folder, write_atomic
from edgebench.errors import EXIT_OK, SpecError, unknown_name
from edgebench.findings import printable
from edgebench.paired import Effect, percent
from edgebench.progress import Progress, SilentProgress
from edgebench.record import kernel_title
from edgebench.units import DASH, format_ms
from edgebench_reports import differs
from edgebench_reports.comparison import Cell, Comparison, compare_sides
from edgebench_reports.judged import Lookup
from edgebench_reports.render import render_still
from edgebench_reports.sides import find_side
from edgebench_reports.vectors import whisker

PAGE = "compare.html"
REFUSED = "NOT COMPARABLE"
EXIT_NOTHING_COMPARABLE = 5  # rules: nothing here may be ranked
SHOWN_DIFFERENCES = 40
HEADINGS = ("case", "kernel", "baseline", "candidate", "time ratio [interval]", "speedups",
            "of roofline", "verdict", "could have seen")  # fmt: skip


def compare_command(
    names: Sequence[str],
    *,
    trees: Sequence[Path] = (),
    form: str = "md",
    out: Path | None = None,
    progress: Progress | None = None,
    lookup: Lookup = known_workload,
) -> tuple[str, int]:
    """Compare the further names with the first; return the text and an exit code.

    5 where not one cell may be ranked. SpecError for fewer than two names, or an unknown one.
    """
    if len(names) < 2:
        raise SpecError(
            f"[compare] expected a baseline and something to compare with it, got {len(names)} "
            "name; give two folders or runs' ids"
        )
    if form not in FORMATS:
        raise unknown_name("compare", "format", form, FORMATS)
    progress = progress or SilentProgress()
    sides = [find_side(name, trees, lookup=lookup, progress=progress) for name in names]
    compared = compare_sides(sides)
    text = FORMATS[form](compared)
    if out is not None:
        make_folder(out)
        write_atomic(out / PAGE, compare_html(compared).encode())
        progress.note(f"page: {out / PAGE}")
    cells = [cell for one in compared for cell in one.cells]
    ranked = any(cell.verdict is not None for cell in cells)
    return text, EXIT_OK if ranked else EXIT_NOTHING_COMPARABLE


# ------------------------------------------------------------------------------------------- words


def case_text(cell: Cell) -> str:
    """Name a cell's case."""
    track, workload, scenario = cell.case
    return f"{workload} {scenario} ({track})"


def effect_text(effect: Effect | None) -> str:
    """Show an effect as a change of time with its interval: '+5.1 % [+4.2, +6.0]'."""
    if effect is None:
        return DASH
    change = f"{percent(effect.estimate):+.1f} %"
    if effect.interval is None:
        return f"{change} [no interval of {effect.pairs} pairs]"
    low, high = (percent(bound) for bound in effect.interval)
    return f"{change} [{low:+.1f}, {high:+.1f}]"


def visible_text(cell: Cell) -> str:
    """Show the smallest change that the cell could have called one."""
    return DASH if cell.visible is None else f"{percent(cell.visible):.1f} %"


def roofline_text(cell: Cell) -> str:
    """Show either side's share of its own device's ceiling, and their ratio."""
    one, other = cell.of_roofline
    if cell.roofline_ratio is None or one is None or other is None:
        return DASH
    return f"{one:.0f} % to {other:.0f} % ({cell.roofline_ratio:.2f}x)"


def speedups_text(cell: Cell) -> str:
    """Show either side's speedup over the fp16 of its own run."""
    one, other = cell.speedups
    return DASH if one is None or other is None else f"{one:.2f}x to {other:.2f}x"


def verdict_text(cell: Cell) -> str:
    """Show the verdict, or that there is none."""
    return cell.verdict or REFUSED


def _row(cell: Cell) -> tuple[str, ...]:
    return (
        case_text(cell),
        kernel_title(cell.kernel),
        format_ms(cell.baseline_ms),
        format_ms(cell.candidate_ms),
        effect_text(cell.effect) if cell.verdict is not None else DASH,
        speedups_text(cell),
        roofline_text(cell),
        verdict_text(cell),
        visible_text(cell) if cell.verdict is not None else DASH,
    )


def notes(compared: Comparison) -> list[str]:
    """Return what must be read beside the table: refusals, limits, cases of one side."""
    found = [
        f"{case_text(cell)} {kernel_title(cell.kernel)}: not ranked, {'; '.join(cell.refusals)}"
        for cell in compared.cells
        if cell.refusals
    ]
    limits: dict[str, list[Cell]] = {}
    for cell in compared.cells:
        if not cell.refusals:
            text = f"smallest change that counts: {percent(cell.limit):.1f} %, {cell.limit_reason}"
            limits.setdefault(text, []).append(cell)
    for text, cells in limits.items():
        named = ", ".join(f"{case_text(cell)} {kernel_title(cell.kernel)}" for cell in cells)
        found.append(text if len(limits) == 1 else f"{text}: {named}")
    if compared.across_hardware:
        found.append(
            "the hardware differs: a verdict is of the whole system; `of roofline` holds each side "
            "against the ceilings measured on its own device"
        )
    for label, cases in (
        (compared.baseline, compared.only_baseline),
        (compared.candidate, compared.only_candidate),
    ):
        if cases:
            named = ", ".join(" ".join(case[1:]) for case in cases)
            found.append(f"only in {label}: {named}")
    if not compared.cells:
        found.append("no case is in both: nothing can be compared")
    return found


# ----------------------------------------------------------------------------------------- formats


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [*table.header(headings), *(table.row(cell or DASH for cell in row) for row in rows)]


def markdown(compared: Sequence[Comparison]) -> str:
    """Return, for each comparison, what differs and then the table."""
    lines: list[str] = []
    for one in compared:
        lines += [f"## {printable(one.candidate)} against {printable(one.baseline)}", ""]
        lines += ["What differs:", ""]
        if one.differs:
            shown = one.differs[:SHOWN_DIFFERENCES]
            rows = [(d.topic, d.field, d.baseline, d.candidate) for d in shown]
            lines += _table(("topic", "field", "baseline", "candidate"), rows)
            if len(one.differs) > len(shown):
                lines.append(f"(and {len(one.differs) - len(shown)} more: --format json)")
        else:
            lines.append("nothing that is known")
        lines += ["", "Time of the candidate over the baseline's; less is faster:", ""]
        lines += _table(HEADINGS, [_row(cell) for cell in one.cells])
        lines += ["", *(f"- {printable(note)}" for note in notes(one)), ""]
    return "\n".join(lines).rstrip()


def _effect_json(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    bounds = effect.interval
    return {
        "change_percent": percent(effect.estimate),
        "interval_percent": None if bounds is None else [percent(bound) for bound in bounds],
        "confidence": effect.confidence,
        "pairs": effect.pairs,
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    track, workload, scenario = cell.case
    return {
        "track": track,
        "workload": workload,
        "scenario": scenario,
        "kernel": cell.kernel,
        "baseline_ms": cell.baseline_ms,
        "candidate_ms": cell.candidate_ms,
        "effect": _effect_json(cell.effect),
        "verdict": cell.verdict,
        "refusals": list(cell.refusals),
        "limit_percent": percent(cell.limit),
        "limit_reason": cell.limit_reason,
        "visible_percent": None if cell.visible is None else percent(cell.visible),
        "percent_of_roofline": list(cell.of_roofline),
        "roofline_ratio": cell.roofline_ratio,
        "speedups": list(cell.speedups),
    }


def as_json(compared: Sequence[Comparison]) -> str:
    """Return the comparisons for other programs; what is unknown is null."""
    found = [
        {
            "baseline": one.baseline,
            "candidate": one.candidate,
            "across_hardware": one.across_hardware,
            "differs": [differs.json_of(found) for found in one.differs],
            "cells": [_cell_json(cell) for cell in one.cells],
            "notes": notes(one),
        }
        for one in compared
    ]
    return json.dumps(found, indent=2, allow_nan=False)


FORMATS: Mapping[str, Callable[[Sequence[Comparison]], str]] = {"md": markdown, "json": as_json}


def compare_html(compared: Sequence[Comparison]) -> str:
    """Return the page; it needs no script, and every string of a bundle is escaped."""
    shown = [
        {
            "baseline": one.baseline,
            "candidate": one.candidate,
            "differs": one.differs,
            "rows": [
                {
                    "cells": _row(cell),
                    "tone": (cell.verdict or "refused").lower(),
                    "plot": _plot(cell),
                }
                for cell in one.cells
            ],
            "notes": notes(one),
        }
        for one in compared
    ]
    values = {"comparisons": shown, "headings": HEADINGS, "version": __version__}
    return render_still("compare", {"title": "EdgeBench comparison", **values})


def _plot(cell: Cell) -> Any:
    effect = cell.effect
    if cell.verdict is None or effect is None or effect.interval is None:
        return None
    low, high = (percent(bound) for bound in effect.interval)
    return whisker(low, percent(effect.estimate), high, limit=percent(cell.limit))
