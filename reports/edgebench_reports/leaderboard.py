"""The leaderboard: checked bundles in, one self-contained page and its data out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from edgebench import __version__
from edgebench.checker import known_workload
from edgebench.codec import make_folder, write_atomic
from edgebench.foreign import ForeignResults, read_foreign
from edgebench.profiles import EXTERNAL
from edgebench.progress import Progress, SilentProgress
from edgebench.record import kernel_title, rows
from edgebench.rows import as_csv, as_json
from edgebench_reports.cards import make_cards
from edgebench_reports.charts import (
    KERNEL_COLOURS,
    OPEN_SHAPES,
    SCENARIO_SHAPES,
    Chart,
    look,
)
from edgebench_reports.columns import Column
from edgebench_reports.details import describe_runs
from edgebench_reports.entries import SCENARIOS, Entry, Submission, disclosures, rank_entries
from edgebench_reports.index import MEMORY
from edgebench_reports.judged import Lookup
from edgebench_reports.pareto import pareto
from edgebench_reports.render import packed_json, printable, render, script_json
from edgebench_reports.roofline_chart import roofline
from edgebench_reports.rulebook import shown_families
from edgebench_reports.run_page import FOLDER, page_name
from edgebench_reports.site import write_pages
from edgebench_reports.speed_chart import speed_accuracy
from edgebench_reports.submissions import Refused, collect
from edgebench_reports.tables import Table, linked_to, make_table

PAGE = "index.html"
DATA = "leaderboard.json"
CSV = "leaderboard.csv"
MAX_INLINE_RUNS = 50  # beyond it a run is described on its own page only
SHOWN_ROWS = 200  # of a table without JavaScript; the script has them all
MAX_CHARTED, MAX_PANELS = 400, 12
MAX_SYSTEMS, MAX_REFUSED = 20, 500
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
    """The legend: our own two kernels always, open models and external engines where shown."""
    shown = dict.fromkeys(["fp16", "int4", *(look(entry)["mark"] for entry in entries)])
    titles: dict[str, str] = {"open": "open model", EXTERNAL: kernel_title(EXTERNAL)}
    return {titles.get(mark, mark): KERNEL_COLOURS[mark] for mark in shown}


def _shapes(entries: Sequence[Entry]) -> dict[str, str]:
    """The legend: both scenarios always, those of open models where one is shown."""
    is_open = any(entry.open_transform for entry in entries)
    return {**SCENARIO_SHAPES, **(OPEN_SHAPES if is_open else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Everything that a leaderboard shows."""

    submissions: Sequence[Submission]
    refused: Sequence[Refused] = ()
    foreign: Sequence[ForeignResults] = ()
    has_pages: bool = False
    """Whether each submission, device and workload has a page of its own beside the leaderboard."""


def leaderboard_html(submissions: Sequence[Submission], refused: Sequence[Refused] = ()) -> str:
    """Return the page alone; every string of a submission is escaped or inert."""
    return board_html(Board(submissions=submissions, refused=refused))


def board_html(board: Board, entries: Sequence[Entry] | None = None) -> str:
    """Return the page of a board; `entries` are its ranked ones where they are known already."""
    submissions = board.submissions
    entries = rank_entries(submissions) if entries is None else entries
    is_inline = not board.has_pages or len(submissions) <= MAX_INLINE_RUNS
    charts = _charts(entries)
    tables = [make_table(entries, scenario) for scenario in SCENARIOS]
    if not is_inline:
        tables = [linked_to(table, page_name) for table in tables]
    return render(
        "leaderboard",
        {
            "title": TITLE,
            "version": __version__,
            "data_name": DATA,
            "csv_name": CSV if board.has_pages else None,
            "run_count": len(submissions),
            "stamps": sorted({stamp for s in submissions for stamp in s.record.stamps}),
            "executed_on": _executed_on(entries)[:MAX_SYSTEMS],
            "cards": make_cards(entries, page_name if not is_inline else None),
            "tables": [(HEADINGS[t.scenario], t, _packed(t)) for t in tables if t.entries],
            "shown_rows": SHOWN_ROWS,
            "charts": charts,
            "chart_specs": script_json([p.spec for chart in charts for p in chart.panels]),
            "kernel_colours": _kernel_colours(entries),
            "shapes": _shapes(entries),
            "columns": _columns(entries),
            "runs": describe_runs(entries) if is_inline else [],
            "groups": _groups(entries) if board.has_pages else [],
            "page_folder": FOLDER if board.has_pages else None,
            "disclosures": disclosures(entries),
            "families": shown_families(),
            "foreign": board.foreign,
            "refused": board.refused[:MAX_REFUSED],
            "refused_count": len(board.refused),
        },
    )


def _charts(entries: Sequence[Entry]) -> list[Chart]:
    """Return the charts of at most so many entries, the best ranked first; what is cut is said."""
    drawn = sorted(entries, key=lambda e: (e.rank is None, e.rank or 0))[:MAX_CHARTED]
    if len(drawn) < len(entries):  # each with the reference of its own run
        kept = {entry.submission.anchor for entry in drawn[: MAX_CHARTED // 2]}
        drawn = [entry for entry in entries if entry.submission.anchor in kept]
    charts = [make(drawn) for make in (speed_accuracy, pareto, roofline)]
    said = f"drawn are the runs of the best ranked entries: {len(drawn)} of {len(entries)} entries"
    return [
        replace(chart, remarks=(said,), panels=chart.panels[:MAX_PANELS])
        if len(drawn) < len(entries)
        else chart
        for chart in charts
        if chart is not None
    ]


def _packed(table: Table) -> Markup | None:
    """Return every row of a long table for the script; None where the page shows them all."""
    if len(table.rows) <= SHOWN_ROWS:
        return None
    rows = [
        [[printable(c.text), c.value, printable(c.note), c.tone, c.link] for c in row]
        for row in table.rows
    ]
    return packed_json(rows)


def _groups(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    devices = sorted({entry.record.host.device for entry in entries})
    workloads = sorted({entry.record.workload.name for entry in entries})
    return [
        *((name, f"device/{name}.html") for name in devices),
        *((name, f"workload/{name}.html") for name in workloads),
    ]


def leaderboard_json(submissions: Sequence[Submission]) -> str:
    """Return the same rows as `bench run --format json` prints, for other programs."""
    return as_json([row for submission in submissions for row in rows(submission.record)]) + "\n"


def leaderboard_csv(submissions: Sequence[Submission]) -> str:
    """Return the same rows as `bench run --format csv` prints."""
    return as_csv([row for submission in submissions for row in rows(submission.record)])


def write_leaderboard(
    submissions: Sequence[Path],
    out: Path,
    *,
    progress: Progress | None = None,
    lookup: Lookup = known_workload,
    index: Path | None = MEMORY,
    with_simulated: bool = False,
) -> Path:
    """Check every bundle below some folders, write pages and data into `out`, return the first.

    Raises SpecError where there is no bundle, StorageError where `out` cannot be written.
    """
    accepted, refused = collect(
        submissions,
        progress=progress,
        lookup=lookup,
        index=index,
        with_simulated=with_simulated,
    )
    foreign: list[ForeignResults] = []
    for root in submissions:
        found, broken = read_foreign(root)
        foreign += found
        refused += [Refused(path=path, findings=(why,)) for path, why in broken]
    board = Board(submissions=accepted, refused=refused, foreign=foreign, has_pages=True)
    entries = rank_entries(accepted)
    make_folder(out)
    write_atomic(out / DATA, leaderboard_json(accepted).encode())
    write_atomic(out / CSV, leaderboard_csv(accepted).encode())
    write_pages(entries, out, progress or SilentProgress())
    page = out / PAGE
    write_atomic(page, board_html(board, entries).encode())
    return page
