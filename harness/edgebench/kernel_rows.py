"""A race of kernels as Markdown: every row, then geometric means over the shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgebench.units import DASH, format_number
from edgebench_kernels.race.rows import Mean, Row, summarize

UNNAMED = "EdgeBench"


def _number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return DASH
    return format_number(value) if digits is None else f"{value:.{digits}f}"


def _ratio(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}x"


ROW_COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "N x K": lambda row: f"{row.n} x {row.k}",
    "M": lambda row: str(row.m),
    "by": lambda row: row.peer or UNNAMED,
    "op": lambda row: row.op,
    "ms": lambda row: _number(row.ms),
    "IQR ms": lambda row: _number(row.ms_iqr),
    "GB/s": lambda row: _number(row.weight_gb_per_s, 1),
    "GFLOP/s": lambda row: _number(row.gflops, 0),
    "% of bandwidth": lambda row: _number(row.percent_of_bandwidth, 0),
    "% of compute": lambda row: _number(row.percent_of_compute, 0),
    "relative error": lambda row: DASH if row.rel_error is None else f"{row.rel_error:.1e}",
    "best peer's time / this": lambda row: _ratio(row.ratio_to_best_peer),
}
MEAN_COLUMNS: Mapping[str, Callable[[Mean], str]] = {
    "M": lambda mean: str(mean.m),
    "by": lambda mean: mean.peer or UNNAMED,
    "op": lambda mean: mean.op,
    "shapes": lambda mean: str(mean.shapes),
    "% of bandwidth": lambda mean: _number(mean.percent_of_bandwidth, 0),
    "% of compute": lambda mean: _number(mean.percent_of_compute, 0),
    "best peer's time / this": lambda mean: _ratio(mean.ratio_to_best_peer),
}


def markdown(rows: Sequence[Row]) -> str:
    """Two tables: the rows, and their geometric means over the shapes."""
    title = "Geometric means over the shapes:"
    return "\n\n".join((_table(ROW_COLUMNS, rows), title, _table(MEAN_COLUMNS, summarize(rows))))


def _table(columns: Mapping[str, Callable[[object], str]] | Mapping[str, Callable[..., str]],
           items: Sequence[object]) -> str:  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell(item) for cell in columns.values()) + " |" for item in items]
    return "\n".join(lines)
