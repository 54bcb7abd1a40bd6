"""A perplexity as text: a Markdown table with its protocol below it, JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping

from edgebench import markdown as table
from edgebench.csv_cells import cell
from edgebench.perplexity_record import PerplexityRecord, PerplexityResult
from edgebench.units import DASH, format_number

COLUMNS: Mapping[str, Callable[[PerplexityResult], str]] = {
    "kernel": lambda one: one.kernel,
    "executed": lambda one: one.executed_path,
    "transform": lambda one: one.transform,
    "perplexity": lambda one: format_number(one.perplexity, 5),
    "over fp16": lambda one: DASH if one.over_reference is None else f"{one.over_reference:.4f}x",
    "word perplexity": lambda one: format_number(one.word_perplexity, 5),
    "bits/byte": lambda one: format_number(one.bits_per_byte, 4),
}


def markdown(record: PerplexityRecord) -> str:
    """One row per kernel; the number never stands without its protocol."""
    protocol = record.protocol
    lines = table.header(("model", *COLUMNS))
    for result in record.results:
        cells = [record.model.name, *(cell(result) for cell in COLUMNS.values())]
        lines.append(table.row(cells))
    lines += [
        "",
        f"Protocol: context {protocol.context}, stride {protocol.stride}, "
        f"{protocol.windows} windows; over {protocol.tokens} tokens, {protocol.words} words, "
        f"{protocol.bytes} bytes; {protocol.special_tokens} special tokens; text sha256 "
        f"{protocol.text_sha256[:12]}, tokenizer sha256 {protocol.tokenizer_sha256[:12]}.",
    ]
    if record.calibration is not None:
        used = record.calibration
        lines.append(
            f"Calibrated on {used.blocks} blocks of {used.block_tokens} tokens; text sha256 "
            f"{used.text_sha256[:12]}."
        )
    return "\n".join(lines)


def as_json(record: PerplexityRecord) -> str:
    """The whole record."""
    return record.model_dump_json(indent=2)


def as_csv(record: PerplexityRecord) -> str:
    """One line per kernel, the protocol in every line; windows are left to JSON."""
    out = io.StringIO()
    protocol = record.protocol.model_dump(mode="json")
    used = record.calibration
    protocol["calibration_sha256"] = None if used is None else used.text_sha256
    rows = [
        {"model": record.model.name, **result.model_dump(mode="json", exclude={"window_nats"})}
        for result in record.results
    ]
    writer = csv.DictWriter(out, [*rows[0], *protocol], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell(v) for key, v in {**row, **protocol}.items()} for row in rows)
    return out.getvalue()


FORMATS: Mapping[str, Callable[[PerplexityRecord], str]] = {
    "md": markdown,
    "json": as_json,
    "csv": as_csv,
}
