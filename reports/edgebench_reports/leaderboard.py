"""The leaderboard: checked bundles in, one self-contained page and its data out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench import __version__
from edgebench.checker import known_workload
from edgebench.codec import make_folder, write_atomic
from edgebench.progress import Progress
from edgebench.record import Kernel, kernel_title, rows
from edgebench.rows import as_json
from edgebench_reports.cards import make_cards
from edgebench_reports.charts import KERNEL_COLOURS, SCENARIO_SHAPES
from edgebench_reports.details import describe_runs
from edgebench_reports.entries import SCENARIOS, Entry, Submission, disclosures, rank_entries
from edgebench_reports.render import render, script_json
from edgebench_reports.roofline_chart import roofline
from edgebench_reports.rulebook import shown_families
from edgebench_reports.speed_chart import speed_accuracy
from edgebench_reports.submissions import Lookup, Refused, collect
from edgebench_reports.tables import Column, make_table

PAGE = "index.html"
DATA = "leaderboard.json"
TITLE = "EdgeBench leaderboard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What stands above a scenario's table."""

    title: str
    caption: str


HEADINGS = {
    "single-stream": Heading(
        title="Single-stream",
        caption="One command at a time, bound by memory. Ranked by the early-stopping estimate of "
        "the 90th percentile latency.",
    ),
    "offline": Heading(
        title="Offline",
        caption="All commands at once, bound by arithmetic; the system chose its batch. Ranked by "
        "samples per second.",
    ),
}


def _columns(entries: Sequence[Entry]) -> list[Column]:
    """Return every column that some table shows, once."""
    shown = [column for scenario in SCENARIOS for column in make_table(entries, scenario).columns]
    return list({column.heading: column for column in shown}.values())


def _executed_on(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    return sorted({(e.record.system, e.record.host.executed_on) for e in entries})


def _kernel_colours(entries: Sequence[Entry]) -> dict[str, str]:
    """The legend: our own two kernels always, an external engine where one is shown."""
    own: tuple[Kernel, ...] = ("fp16", "int4")
    shown = dict.fromkeys([*own, *(entry.result.kernel for entry in entries)])
    return {kernel_title(kernel): KERNEL_COLOURS[kernel] for kernel in shown}


def leaderboard_html(submissions: Sequence[Submission], refused: Sequence[Refused] = ()) -> str:
    """Return the page; every string of a submission is escaped or inert."""
    entries = rank_entries(submissions)
    charts = [chart for chart in (speed_accuracy(entries), roofline(entries)) if chart is not None]
    tables = [make_table(entries, scenario) for scenario in SCENARIOS]
    return render(
        "leaderboard",
        {
            "title": TITLE,
            "version": __version__,
            "data_name": DATA,
            "run_count": len(submissions),
            "stamps": sorted({stamp for s in submissions for stamp in s.record.stamps}),
            "executed_on": _executed_on(entries),
            "cards": make_cards(entries),
            "tables": [(HEADINGS[t.scenario], t) for t in tables if t.entries],
            "charts": charts,
            "chart_specs": script_json([p.spec for chart in charts for p in chart.panels]),
            "kernel_colours": _kernel_colours(entries),
            "scenario_shapes": SCENARIO_SHAPES,
            "columns": _columns(entries),
            "runs": describe_runs(entries),
            "disclosures": disclosures(entries),
            "families": shown_families(),
            "refused": refused,
        },
    )


def leaderboard_json(submissions: Sequence[Submission]) -> str:
    """Return the same rows as `bench run --format json` prints, for other programs."""
    return as_json([row for submission in submissions for row in rows(submission.record)]) + "\n"


def write_leaderboard(
    submissions: Sequence[Path],
    out: Path,
    *,
    progress: Progress | None = None,
    lookup: Lookup = known_workload,
) -> Path:
    """Check every bundle below some folders, write page and data into `out`, return the page.

    Raises SpecError where there is no bundle, StorageError where `out` cannot be written.
    """
    accepted, refused = collect(submissions, progress=progress, lookup=lookup)
    make_folder(out)
    write_atomic(out / DATA, leaderboard_json(accepted).encode())
    page = out / PAGE
    write_atomic(page, leaderboard_html(accepted, refused).encode())
    return page
