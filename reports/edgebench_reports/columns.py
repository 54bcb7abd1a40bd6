"""A table's column and its cells: what people read, and the value that is sorted and exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgebench_reports.entries import Entry

ALL = ("single-stream", "offline")
SINGLE = ("single-stream",)
OFFLINE = ("offline",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: what people read, and the value by which it sorts, filters and is exported."""

    text: str
    value: str | float | None
    note: str = ""
    tone: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its heading, what it means, and the cell of an entry."""

    heading: str
    meaning: str
    cell: Callable[[Entry], Cell]
    scenarios: tuple[str, ...] = ALL
    is_number: bool = False
    is_shown: bool = True
    """Whether it is shown before the reader chooses columns."""
    has_choices: bool = False
    """Whether its filter offers the values to choose from."""
