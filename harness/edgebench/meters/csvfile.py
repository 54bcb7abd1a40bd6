"""External CSV: any power meter whose logger appends `epoch_s,watts` to a file while a run lasts.

    epoch_s,watts
    1760000000.10,41.7
    1760000000.20,42.1

The wall, a bench supply, a Joulescope: only its owner knows what it is wired to. Its clock must be
this machine's: a reading from the future, or one that arrives late, is dated by another clock and
would be laid over other blocks than it belongs to, so the meter is then refused, not corrected.
MLPerf's power rules tolerate 0.8 s between two clocks (mlcommons/power-dev, check.py).
"""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from edgebench.meters.protocol import Domain, Probe, TimedReading

DOMAIN = "external"
COVERS = "whatever the external meter is wired to"
AHEAD_S = 0.8  # a clock that is further ahead is another clock: MLPerf power-dev
LATE_PERIODS = 3  # a logger may buffer some lines
LATE_S = 2.0
STEP_S = 0.5  # the system clock was set while the run went on
TAIL_BYTES = 65536
LIMIT_W = 1e6
FIX = "append lines of epoch_s,watts, dated by this machine's clock, while the run lasts"
_LINE = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*,\s*(-?\d{1,9}(?:\.\d{1,9})?)\s*", re.ASCII)

Clock = Callable[[], int]


class CsvMeter:
    """Follows a growing file; its times are moved from the epoch to the monotonic clock."""

    name = "csv"

    def __init__(
        self, path: Path, *, wall_ns: Clock = time.time_ns, monotonic_ns: Clock = time.monotonic_ns
    ) -> None:
        self._path = path
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._offset_ns = 0
        self._position = 0
        self._period_s = 1.0

    def probe(self) -> Probe:
        """Read the newest line: it must be a number, and from now."""
        try:
            size = self._path.stat().st_size
            self._position = max(0, size - TAIL_BYTES)
            self._offset_ns = self._monotonic_ns() - self._wall_ns()
            rows = self._new_rows(is_tail=self._position > 0)
        except (OSError, ValueError) as err:
            return self._refused(f"{err}; {FIX}")
        if len(rows) < 2:
            return self._refused(f"{self._path.name} has fewer than two readings; {FIX}")
        times = [t for t, _ in rows]
        self._period_s = max(statistics.median(b - a for a, b in pairwise(times)), 1e-3)
        fault = self._clock_fault(times[-1])
        if fault:
            return self._refused(f"{fault}; {FIX}")
        domain = Domain(
            name=DOMAIN,
            covers=COVERS,
            kind="power",
            unit="W",
            update_s=self._period_s,
            limit_W=LIMIT_W,
        )
        return Probe(
            meter=self.name, ok=True, reason="", domains=(domain,), primary=DOMAIN, covers=COVERS
        )

    def read(self) -> dict[str, float]:
        """Return the newest power in W."""
        return {domain: value for _, domain, value in self.read_timed()}

    def read_timed(self) -> list[TimedReading]:
        """Return the lines that came since the last call.

        Raises ValueError for a line that is no reading, and where either clock was set.
        """
        offset_ns = self._monotonic_ns() - self._wall_ns()
        if abs(offset_ns - self._offset_ns) > STEP_S * 1e9:
            moved_s = (self._offset_ns - offset_ns) / 1e9
            raise ValueError(f"this machine's clock was set by {moved_s:+.1f} s during the run")
        rows = self._new_rows()
        if rows:
            fault = self._clock_fault(rows[-1][0])
            if fault:
                raise ValueError(fault)
        return [(round(t * 1e9) + self._offset_ns, DOMAIN, watts) for t, watts in rows]

    def _refused(self, reason: str) -> Probe:
        return Probe(meter=self.name, ok=False, reason=reason)

    def _clock_fault(self, newest_s: float) -> str | None:
        """Say by how much the newest reading is not from now, else None."""
        late_s = self._wall_ns() / 1e9 - newest_s
        if late_s < -AHEAD_S:
            return f"{self._path.name} is dated {-late_s:.1f} s ahead of this machine's clock"
        if late_s > LATE_S + LATE_PERIODS * self._period_s:
            return f"the newest line of {self._path.name} is {late_s:.1f} s old"
        return None

    def _new_rows(self, *, is_tail: bool = False) -> list[tuple[float, float]]:
        """Return whole lines since the last call as (epoch in s, W); a torn last one waits."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        is_first = self._position == 0
        self._position += len(whole)
        lines = whole.decode("ascii", "replace").splitlines()
        if is_tail or (is_first and lines and _LINE.fullmatch(lines[0]) is None):
            lines = lines[1:]  # a line cut in two, or the header
        return [self._row(line) for line in lines if line.strip()]

    def _row(self, line: str) -> tuple[float, float]:
        match = _LINE.fullmatch(line)
        if match is None or not math.isfinite(float(match[2])):
            raise ValueError(f"{self._path.name}: expected epoch_s,watts, got {line[:60]!r}")
        return float(match[1]), float(match[2])
