"""Cold and sustained rates: what a kernel reached before the machine was warm, and after.

Only where its blocks span over two minutes. A rate is samples over the time of the kernel's own
blocks, so that what other kernels did in between does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.profiles import COLD_S, SUSTAINED_MIN_S, SUSTAINED_S
from edgebench.record import SampleRow, Sustained
from edgebench.scenarios import measured_ns
from edgebench.units import NS_PER_S


def sustained_rates(rows: Sequence[SampleRow]) -> Sustained | None:
    """Derive both rates from one kernel's performance rows; None for a short run."""
    if not rows:
        return None
    start_ns = min(row.issued_ns for row in rows)
    end_ns = max(row.completed_ns for row in rows)
    if (end_ns - start_ns) / NS_PER_S <= SUSTAINED_MIN_S:
        return None
    cold = _rate([row for row in rows if row.completed_ns <= start_ns + COLD_S * NS_PER_S])
    late = _rate([row for row in rows if row.issued_ns >= end_ns - SUSTAINED_S * NS_PER_S])
    if not cold or late is None:
        return None
    return Sustained(cold_samples_per_s=cold, sustained_samples_per_s=late, ratio=late / cold)


def _rate(rows: Sequence[SampleRow]) -> float | None:
    duration_s = measured_ns(rows) / NS_PER_S if rows else 0.0
    return len(rows) / duration_s if duration_s else None
