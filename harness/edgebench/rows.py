"""Result rows as text: one paste-able Markdown table, CSV or a JSON array."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence

from edgebench import markdown as table
from edgebench.csv_cells import cell
from edgebench.record import Row, kernel_title
from edgebench.units import DASH, format_fraction, format_number, format_percent, format_si


def _speedup(row: Row) -> str:
    if row.speedup is None:
        return DASH
    if row.speedup_ci95 is None:
        return f"{row.speedup:.2f}x"
    low, high = row.speedup_ci95
    return f"{row.speedup:.2f}x [{low:.2f}, {high:.2f}]"


def _energy(row: Row) -> str:
    return DASH if row.energy.joules is None else format_si(row.energy.joules / row.samples, "J")


def _verdict(row: Row) -> str:
    if not row.valid:
        return "INVALID"
    return "valid" if row.accuracy_passed is not False else "accuracy missed"


COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "workload": lambda row: row.workload,
    "scenario": lambda row: row.scenario,
    "kernel": lambda row: kernel_title(row.kernel),
    "p90 ms": lambda row: format_number(row.latency_p90_ms),
    "TTFT p90 ms": lambda row: format_number(row.ttft_p90_ms),
    "TPOT p90 ms": lambda row: format_number(row.tpot_p90_ms),
    "samples/s": lambda row: format_number(row.samples_per_s),
    "tokens/s": lambda row: format_number(row.tokens_per_s),
    "speedup [95 % CI]": _speedup,
    "exact match": lambda row: format_fraction(row.accuracy),
    "call NLL": lambda row: format_number(row.call_nll),
    "J/sample": _energy,
    "% bandwidth": lambda row: format_percent(row.percent_of_bandwidth, digits=0),
    "% compute": lambda row: format_percent(row.percent_of_compute, digits=0),
    "executed": lambda row: row.executed_path,
    "verdict": _verdict,
}


def markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table, one row per (workload, scenario, kernel)."""
    lines = (table.row(cell(row) for cell in COLUMNS.values()) for row in rows)
    return "\n".join([*table.header(COLUMNS), *lines])


def as_json(rows: Sequence[Row]) -> str:
    """Return a JSON array of rows; what was not measured is null."""
    return json.dumps([row.model_dump(mode="json") for row in rows], indent=2, allow_nan=False)


def as_csv(rows: Sequence[Row]) -> str:
    """Return CSV with one column per key; lists and energy are JSON, not measured is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Row.model_fields)
    for row in rows:
        values = row.model_dump(mode="json").values()
        writer.writerow(
            json.dumps(value) if isinstance(value, dict | list) else cell(value) for value in values
        )
    return out.getvalue()


FORMATS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "md": markdown,
    "json": as_json,
    "csv": as_csv,
}
