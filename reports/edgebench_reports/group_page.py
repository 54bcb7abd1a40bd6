"""The page of a device or a workload: INT4 beside the fp16 of its own run, ranked as elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebench import __version__
from edgebench.record import KernelResult, kernel_title
from edgebench.units import DASH, format_fraction, format_ms, format_number
from edgebench_reports.entries import Entry, verdict
from edgebench_reports.render import render_still
from edgebench_reports.run_page import page_name
from edgebench_reports.tables import interval_text

MAX_ROWS = 500  # of one page; the leaderboard holds them all
HEADINGS = ("rank", "kernel", "transform", "against fp16", "speedup [95 %]", "exact match, of fp16",
            "J per answer, fp16's", "verdict")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One entry beside its reference."""

    where: str
    case: str
    link: str
    cells: tuple[str, ...]
    tone: str


def group_html(title: str, by: str, entries: Sequence[Entry]) -> str:
    """Return the page of some entries; `by` is what its rows are told apart by."""
    own = [entry for entry in entries if entry.result.kernel != "fp16"]
    values = {
        "title": title,
        "by": by,
        "headings": HEADINGS,
        "pairs": [_pair(entry, by) for entry in own[:MAX_ROWS]],
        "left_out": max(0, len(own) - MAX_ROWS),
        "version": __version__,
    }
    return render_still("group", values)


def _pair(entry: Entry, by: str) -> Pair:
    record, result, reference = entry.record, entry.result, entry.reference
    speed = DASH if result.speedup is None else f"{result.speedup:.2f}× [{_interval(result)}]"
    accuracy = f"{format_fraction(result.accuracy)}, {format_fraction(result.accuracy_ratio)}"
    said = verdict(entry)
    return Pair(
        where=record.workload.name
        if by == "workload"
        else f"{record.system} ({record.host.device})",
        case=f"{record.track} · {record.scenario} · {record.profile}",
        link=f"../{page_name(entry.submission)}",
        cells=(
            DASH if entry.rank is None else str(entry.rank),
            f"{kernel_title(result.kernel)} ({result.executed_path})",
            result.transform,
            f"{_speed(entry, result)} against {_speed(entry, reference)}",
            speed,
            accuracy,
            f"{_energy(result)}, {_energy(reference)}",
            said,
        ),
        tone="good" if said == "valid" else "refused",
    )


def _interval(result: KernelResult) -> str:
    return interval_text(result.speedup_ci95)


def _speed(entry: Entry, result: KernelResult | None) -> str:
    if result is None:
        return DASH
    if entry.record.scenario == "single-stream":
        return format_ms(result.latency_p90_ms)
    return f"{format_number(result.samples_per_s)}/s"


def _energy(result: KernelResult | None) -> str:
    if result is None or result.energy.joules is None or not result.samples:
        return DASH
    return format_number(result.energy.joules / result.samples)
