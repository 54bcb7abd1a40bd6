"""Slow creep: many nights, each too small to be called, that together moved a cell.

PELT (Killick, Fearnhead and Eckley 2012) with a squared-error cost splits the history into levels;
its penalty is 3 ln(n) sigma^2 with sigma from the median absolute first difference, so that steps
do not inflate it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.nightly.history import HistoryRow
from edgebench.paired import log_ratio

MIN_NIGHTS = 6
MIN_LEVEL = 3  # nights that a level lasts
PENALTY = 3.0
MAD_TO_SIGMA = 1.4826 / math.sqrt(2)  # of a difference of two normal values


@dataclass(frozen=True, slots=True, kw_only=True)
class Creep:
    """A cell whose level moved, with the nights and heads between which it did."""

    cell: str
    change: float
    """Log-ratio between the first level and the last."""
    first_night: str
    last_night: str
    first_head: str
    last_head: str


def levels(values: Sequence[float]) -> list[tuple[int, int]]:
    """Return the [start, stop) of each level of a series; one level where it is short or flat."""
    if len(values) < MIN_NIGHTS:
        return [(0, len(values))] if values else []
    import numpy as np
    import ruptures

    steps = [abs(after - before) for before, after in itertools.pairwise(values)]
    sigma = MAD_TO_SIGMA * statistics.median(steps)
    if sigma == 0:
        sigma = 1e-9
    search = ruptures.Pelt(model="l2", min_size=MIN_LEVEL, jump=1)
    penalty = PENALTY * math.log(len(values)) * sigma**2
    stops = search.fit_predict(np.asarray(values).reshape(-1, 1), pen=penalty)
    return list(zip([0, *stops[:-1]], stops, strict=True))


def find_creep(rows: Sequence[HistoryRow], limit: float) -> Creep | None:
    """Return the creep of one cell's nights, oldest first; None where its level held.

    The first and the last level must differ by more than `limit`, in log units. A night without a
    number is passed over.
    """
    known = [row for row in rows if row.kind == "night" and row.change_percent is not None]
    values = [log_ratio(row.change_percent) for row in known if row.change_percent is not None]
    found = levels(values)
    if len(found) < 2:
        return None
    first, last = (statistics.median(values[start:stop]) for start, stop in (found[0], found[-1]))
    if last - first <= limit:
        return None
    before, after = known[found[0][1] - 1], known[found[-1][0]]
    return Creep(
        cell=known[0].cell,
        change=last - first,
        first_night=before.night_utc,
        last_night=after.night_utc,
        first_head=before.head,
        last_head=after.head,
    )
