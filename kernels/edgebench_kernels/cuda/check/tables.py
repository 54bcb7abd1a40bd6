"""Tables that stages leave in their data, and that the summary shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NONE = "-"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> dict[str, Any]:
    """As it stands in the JSON; numbers stay numbers."""
    return {"title": title, "columns": list(columns), "rows": [list(row) for row in rows]}


def markdown(one: dict[str, Any]) -> list[str]:
    """Its lines."""
    head = [f"**{one['title']}**", ""] if one.get("title") else []
    columns = one["columns"]
    lines = [*head, _line(columns), _line(["---"] * len(columns))]
    return [*lines, *(_line([shown(cell) for cell in row]) for row in one["rows"]), ""]


def shown(value: Any) -> str:
    """A cell: four significant digits, and a dash for what there is not."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "/").replace("\n", " ")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
