"""The history: one JSON line per cell and night, appended, never edited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgebench.codec import append_synced, encode_row, make_folder, parse_model
from edgebench.errors import BundleError, StorageError
from edgebench.paired import log_ratio, percent
from edgebench.record import Count, Name, StrictModel, Text
from edgebench.utc import read_utc

State = Literal["regression", "suspicious", "no change", "improvement", "unsure",
                "insufficient data", "void"]  # fmt: skip

MAX_BYTES = 256 << 20
MIN_AA = 10  # comparisons of a version with itself, before they say what this device can see
AA_QUANTILE, AA_MARGIN = 0.95, 1.5
MISSED_NIGHT = timedelta(hours=36)


class HistoryRow(StrictModel):
    """One cell of one night."""

    schema_version: Literal[1] = 1
    kind: Literal["night", "aa"] = Field(description="aa: a version against itself")
    night_utc: Text
    suite: Name
    system: Name
    cell: Text
    baseline: Text
    head: Text
    change_percent: float | None
    interval_percent: tuple[float, float] | None
    pairs: Count
    limit_percent: Annotated[float, Field(gt=0)]
    state: State


def read_history(path: Path) -> tuple[list[HistoryRow], list[str]]:
    """Return the rows of a history and what is wrong with it; a broken line is named and skipped.

    No file is an empty history.
    """
    if not path.exists():
        return [], []
    try:
        data = path.read_bytes()
    except OSError as err:
        raise StorageError(f"[history] expected to read {path}, got {err.strerror}") from err
    rows, faults = [], []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            rows.append(parse_model(HistoryRow, line, f"{path.name}:{number}"))
        except BundleError as err:
            faults.append(f"skipped a line: {err}")
    return rows, faults


def append_history(path: Path, rows: Iterable[HistoryRow]) -> None:
    """Append rows at once; StorageError leaves no half line."""
    make_folder(path.parent)
    append_synced(path, b"".join(encode_row(row) for row in rows))


def limit_from(
    rows: Sequence[HistoryRow], cell: str, system: str, *, floor_percent: float, unknown: float
) -> tuple[float, str]:
    """Return the smallest change that counts, in log units, and where it comes from.

    1.5 times the 95 % quantile of what this device saw when nothing had changed, never below the
    floor; with fewer than ten such comparisons, what the suite says of an unknown device.
    """
    seen = sorted(
        abs(log_ratio(row.change_percent))
        for row in rows
        if row.kind == "aa" and row.system == system and row.cell == cell
        and row.change_percent is not None
    )  # fmt: skip
    if len(seen) < MIN_AA:
        why = f"{len(seen)} A/A comparisons of {MIN_AA}: the suite's {unknown:g} %"
        return log_ratio(unknown), why
    quantile = seen[min(len(seen) - 1, int(len(seen) * AA_QUANTILE))]
    limit = max(AA_MARGIN * quantile, log_ratio(floor_percent))
    return limit, f"{len(seen)} A/A comparisons on this device: {percent(limit):.1f} %"


def gaps(nights: Sequence[str], now: datetime | None = None) -> list[str]:
    """Say between which nights none was measured, and which claim to be in the future."""
    now = now or datetime.now(timezone.utc)
    found, said, previous = [], [], None
    for text in sorted(set(nights)):
        try:
            moment = read_utc(text)
        except ValueError:
            said.append(f"a night whose date cannot be read: {text!r}")
            continue
        if moment > now + timedelta(days=1):
            said.append(f"a night in the future: {text}; the clock was wrong")
        found.append(moment)
    for moment in sorted(found):
        if previous is not None and moment - previous > MISSED_NIGHT:
            days = (moment - previous).days
            said.append(f"no night between {previous:%Y-%m-%d} and {moment:%Y-%m-%d} ({days} days)")
        previous = moment
    return said
