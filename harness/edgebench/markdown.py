"""Markdown tables: any text as one cell that no reader takes for markup of its own."""

from __future__ import annotations

from collections.abc import Iterable

from edgebench.findings import printable


def cell(text: str) -> str:
    """Escape what would end a cell or begin HTML or code; bold text stays bold."""
    escaped = printable(text).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("<", "&lt;").replace("`", "'")


def row(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(cell, cells))} |"


def header(names: Iterable[str]) -> list[str]:
    """The two lines that a table begins with."""
    titles = list(names)
    return [row(titles), f"|{' --- |' * len(titles)}"]
