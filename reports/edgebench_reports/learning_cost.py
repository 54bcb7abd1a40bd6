"""What the open track's models cost to make, from their ledgers: words for cards, a column."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.units import DASH, format_number
from edgebench_reports.columns import Cell, Column
from edgebench_reports.entries import Entry
from edgebench_reports.evidence import LearningCost

SECONDS_PER_MINUTE = 60.0
HEADING = "training CPU min"
MEANING = (
    "CPU minutes, all threads, that an open model's training took as its ledger declares; below it "
    "the examples and steps, and what multiplied. A searched subnet says how many subnets were "
    "evaluated; its supernet was trained beforehand. A dash: nothing was trained."
)


def costs_of(entry: Entry) -> tuple[LearningCost, ...]:
    """Return what an entry's model cost; the fp16 reference beside it cost nothing of that."""
    return () if entry.result.kernel == "fp16" else entry.submission.evidence.costs


def cpu_minutes(entry: Entry) -> float | None:
    """Return the CPU minutes of all its training; None where none is declared."""
    known = [cost.cpu_s for cost in costs_of(entry) if cost.cpu_s is not None]
    return sum(known) / SECONDS_PER_MINUTE if known else None


def cost_text(cost: LearningCost) -> str:
    """Say what one step cost."""
    parts = []
    if cost.examples is not None:
        parts.append(f"{cost.examples:,} examples")
    if cost.steps is not None:
        parts.append(f"{cost.steps:,} steps")
    if cost.cpu_s is not None:
        parts.append(f"{format_number(cost.cpu_s / SECONDS_PER_MINUTE)} CPU minutes")
    if cost.device not in (None, "cpu"):
        parts.append(f"beside an accelerator: {cost.device}")
    if cost.evaluations is not None:
        parts.append(f"{cost.evaluations:,} subnets evaluated")
    return f"{cost.transform}: {', '.join(parts)}"


def learning_columns(entries: Sequence[Entry]) -> tuple[Column, ...]:
    """Return the column of training costs where an entry has one, else none."""
    if not any(costs_of(entry) for entry in entries):
        return ()

    def cell(entry: Entry) -> Cell:
        minutes = cpu_minutes(entry)
        return Cell(
            text=DASH if minutes is None else format_number(minutes),
            value=minutes,
            note="; ".join(cost_text(cost) for cost in costs_of(entry)),
        )

    return (Column(heading=HEADING, meaning=MEANING, cell=cell, is_number=True),)
