"""Energy of a kernel's own blocks: a pure function of `power.csv` and the blocks' windows.

Between two readings a counter's power is taken as constant and a power reading as a straight line;
both are clipped to the windows, so energy adds up over split windows and a constant power P gives
P x T however it was sampled. A gap over 5 periods is a hole: it is left out, and joules are the
mean power of the covered time x the window's time, stated with the coverage. Below 95 % covered
there are no joules. A counter that goes down, stands still for over 5 periods or implies more than
the limit cannot be believed. Such energy is unmeasured with its reason; it is never 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from edgebench.meters import powercsv
from edgebench.meters.highest import Piece, highest
from edgebench.meters.powercsv import Log, Series
from edgebench.meters.protocol import UNITS
from edgebench.record import Energy

Window = tuple[int, int]

HOLE_PERIODS = 5  # a longer gap is not bridged
COVERAGE_NEEDED = 0.95  # below it: "partial", no joules
FALLBACK_PERIOD_S = 0.1
REASON_CHARACTERS = 2000  # record.Text
COUNTED = "differences of an energy counter"
SAMPLED = "trapezoids under power readings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A meter and the domain of it whose energy is asked for."""

    meter: str
    domain: str
    covers: str = ""
    """What it measures, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One domain's share: energy over the covered time, or why there is none."""

    pieces: tuple[Piece, ...] = ()
    left_out: int = 0
    """Readings within the windows that nobody can believe."""
    is_counter: bool = False
    period_s: float = 0.0
    fault: str | None = None

    @property
    def joules(self) -> float:
        """Over the covered time."""
        return sum(piece.joules for piece in self.pieces)

    @property
    def covered_ns(self) -> int:
        """How long the pieces last together."""
        return sum(piece.length_ns for piece in self.pieces)

    @property
    def readings(self) -> int:
        """How many stretches between two readings there are."""
        return len(self.pieces)


class _Unbelievable(Exception):
    """A reading that spoils the whole domain."""


def integrate(
    log: Path | Log,
    windows: Iterable[Window],
    *,
    source: Source | None,
    reason: str | None = None,
    idle: Sequence[Window] = (),
) -> Energy:
    """Integrate a source's domain ('a+b' adds parts) over the windows (start_ns, end_ns).

    `log`: the file, or what `powercsv.load` made of it. `idle`: windows before and after, in which
    nothing ran. `source=None` says that nothing could measure: the Energy is then unmeasured with
    `reason`. Raises BundleError if the file is malformed.
    """
    if source is None:
        return Energy(status="unmeasured", reason=(reason or "no meter")[:REASON_CHARACTERS])
    merged = _merge(windows)
    length_ns = sum(end - start for start, end in merged)
    if length_ns == 0:
        return _unmeasured(source, "the kernel's blocks have no length")
    log = powercsv.load(log) if isinstance(log, Path) else log
    parts = []
    for name in source.domain.split("+"):
        part = _part(log.get((source.meter, name), Series()), merged)
        if part.fault is not None:
            return _unmeasured(source, f"{name}: {part.fault}")
        parts.append(part)
    energy = _energy(source, parts, merged)
    return energy if energy.status != "measured" else _above_idle(energy, log, source, idle)


def recompute(
    log: Path | Log, windows: Iterable[Window], recorded: Energy, idle: Sequence[Window] = ()
) -> Energy:
    """Integrate again what a record claims; without a meter the recorded reason is kept."""
    source = None
    if recorded.meter is not None and recorded.domain is not None:
        source = Source(meter=recorded.meter, domain=recorded.domain, covers=recorded.covers or "")
    return integrate(log, windows, source=source, reason=recorded.reason, idle=idle)


def _energy(source: Source, parts: Sequence[_Part], windows: Sequence[Window]) -> Energy:
    length_ns = sum(end - start for start, end in windows)
    coverage = min(part.covered_ns for part in parts) / length_ns
    mean_W = sum(part.joules / (part.covered_ns / 1e9) for part in parts if part.covered_ns)
    if coverage < COVERAGE_NEEDED:
        return Energy(
            status="partial" if coverage > 0 else "unmeasured",
            reason=f"readings cover {100 * coverage:.1f} % of the kernel's blocks",
            meter=source.meter,
            domain=source.domain,
            mean_power_W=mean_W if coverage > 0 else None,
            coverage=coverage,
            covers=source.covers or None,
        )
    is_counter = any(part.is_counter for part in parts)
    peak_W, p95_W = highest([part.pieces for part in parts], is_counter=is_counter)
    return Energy(
        status="measured",
        meter=source.meter,
        domain=source.domain,
        joules=mean_W * length_ns / 1e9,
        mean_power_W=mean_W,
        coverage=coverage,
        covers=source.covers or None,
        method=_method(is_counter, sum(part.left_out for part in parts)),
        readings=sum(part.readings for part in parts),
        error_bound_percent=_bound_percent(parts, windows, is_counter=is_counter),
        peak_power_W=peak_W,
        p95_power_W=p95_W,
    )


def _method(is_counter: bool, left_out: int) -> str:
    method = COUNTED if is_counter else SAMPLED
    return f"{method}, {left_out} negative or absurd ones left out" if left_out else method


def _bound_percent(parts: Sequence[_Part], windows: Sequence[Window], *, is_counter: bool) -> float:
    """How much of the energy lies within one update of the blocks' edges.

    A counter's update may be one period old at either end of a block; readings of power miss half
    a period at either end.
    """
    period_s = max(part.period_s for part in parts)
    length_s = sum(end - start for start, end in windows) / 1e9
    each = 2.0 if is_counter else 1.0
    return min(100.0, 100 * each * period_s * len(windows) / length_s)


def _above_idle(energy: Energy, log: Log, source: Source, idle: Sequence[Window]) -> Energy:
    """Add the power of the idle windows, and the energy above their mean; gross stays as it is."""
    watts = [integrate(log, [window], source=source).mean_power_W for window in idle[:2]]
    known = [each for each in watts if each is not None]
    if not known or energy.joules is None or not energy.mean_power_W:
        return energy
    seconds = energy.joules / energy.mean_power_W
    padded = [*watts, None, None]
    return energy.model_copy(
        update={
            "idle_before_W": padded[0],
            "idle_after_W": padded[1],
            "above_idle_joules": energy.joules - seconds * sum(known) / len(known),
        }
    )


def _unmeasured(source: Source, reason: str) -> Energy:
    return Energy(
        status="unmeasured",
        reason=reason[:REASON_CHARACTERS],
        meter=source.meter,
        domain=source.domain,
        covers=source.covers or None,
    )


def _merge(windows: Iterable[Window]) -> list[Window]:
    """Return the windows' union as disjoint windows in order, so that no time counts twice."""
    merged: list[Window] = []
    for start, end in sorted(window for window in windows if window[1] > window[0]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _part(series: Series, windows: Sequence[Window]) -> _Part:
    """Integrate one domain over disjoint windows."""
    times, watts_or_raw = _believable(series)
    fault = _fault(series, times, windows)
    if fault is not None:
        return _Part(fault=fault)
    try:
        found = tuple(pieces(series, times, watts_or_raw, windows))
    except _Unbelievable as unbelievable:
        return _Part(fault=str(unbelievable))
    if found and not any(piece.joules for piece in found):
        return _Part(fault="0 W" if series.kind == "power" else "did not move")
    return _Part(
        pieces=found,
        left_out=max(0, _within(series.t_ns, windows) - _within(times, windows)),
        is_counter=series.kind == "counter",
        period_s=series.period_s or FALLBACK_PERIOD_S,
    )


def _within(times: Sequence[int], windows: Sequence[Window]) -> int:
    """How many of some ascending times lie in the windows."""
    return sum(bisect_right(times, end) - bisect_right(times, start) for start, end in windows)


def _fault(series: Series, times: Sequence[int], windows: Sequence[Window]) -> str | None:
    """Say why a domain's readings cannot be integrated at all."""
    if len(times) < 2:
        return "fewer than two readings"
    if any(after < before for before, after in pairwise(times)):
        return "the clock of the readings went backwards"
    still_ns = _still_ns(series, windows) if series.kind == "counter" else 0
    return f"did not move in {still_ns / 1e9:.1f} s" if still_ns else None


def pieces(
    series: Series, times: Sequence[int], values: Sequence[float], windows: Sequence[Window]
) -> Iterator[Piece]:
    """Yield the energy between each two readings, clipped to disjoint windows, holes left out."""
    for window in windows:
        first = max(bisect_right(times, window[0]) - 1, 0)
        for i in range(first, len(times) - 1):
            if times[i] >= window[1]:
                break
            ends = times[i], times[i + 1]
            start, end = max(ends[0], window[0]), min(ends[1], window[1])
            if start >= end or _is_hole(series, ends, window):
                continue
            joules = _segment_J(series, ends, (values[i], values[i + 1]), (start, end))
            yield Piece(start_ns=start, end_ns=end, joules=joules)


def _still_ns(series: Series, windows: Sequence[Window]) -> int:
    """Return for how long inside the windows a counter was read again and again without moving.

    0 where no such stretch is longer than the gap that would be a hole: what does not move for so
    long is stuck, because no chip draws nothing.
    """
    longest_ns = HOLE_PERIODS * (series.period_s or FALLBACK_PERIOD_S) * 1e9
    times, values = series.t_ns, series.values
    first, still_ns = 0, 0
    for i in range(1, len(times) + 1):
        if i < len(times) and values[i] == values[first]:
            continue
        start, end = times[first], times[i - 1]
        if i - first > 2 and end - start > longest_ns:
            clipped = (min(end, w[1]) - max(start, w[0]) for w in windows)
            still_ns += sum(length for length in clipped if length > 0)
        first = i
    return still_ns


def _believable(series: Series) -> tuple[list[int], list[float]]:
    """Drop negative and absurd power readings; a counter is judged by its differences."""
    if series.kind != "power":
        return series.t_ns, series.values
    watt = UNITS[series.unit]
    most = series.limit_W if series.limit_W is not None else float("inf")
    kept = [
        (t, v) for t, v in zip(series.t_ns, series.values, strict=True) if 0 <= v * watt <= most
    ]
    return [t for t, _ in kept], [v for _, v in kept]


def _is_hole(series: Series, ends: Window, window: Window) -> bool:
    """Tell whether the time between two readings is too long to be bridged.

    A counter keeps counting while nobody reads it: inside one window its difference is still right,
    unless it could have wrapped twice.
    """
    gap_s = (ends[1] - ends[0]) / 1e9
    if gap_s <= HOLE_PERIODS * (series.period_s or FALLBACK_PERIOD_S):
        return False
    if series.kind == "power" or ends[0] < window[0] or ends[1] > window[1]:
        return True
    if series.range is None:
        return False
    return series.limit_W is None or gap_s * series.limit_W > series.range * UNITS[series.unit]


def _segment_J(series: Series, ends: Window, values: tuple[float, float], clipped: Window) -> float:
    """Energy in J between two readings, clipped to [clipped[0], clipped[1]]."""
    gap_s = (ends[1] - ends[0]) / 1e9
    length_s = (clipped[1] - clipped[0]) / 1e9
    scale = UNITS[series.unit]
    if series.kind == "counter":
        return _difference(series, values, gap_s) * scale / gap_s * length_s
    slope = (values[1] - values[0]) / gap_s
    middle_s = ((clipped[0] - ends[0]) + (clipped[1] - ends[0])) / 2e9
    return (values[0] + slope * middle_s) * scale * length_s


def _difference(series: Series, values: tuple[float, float], gap_s: float) -> float:
    """Return how far a counter moved, over its wrap; raise if that cannot be believed."""
    moved = values[1] - values[0]
    if moved < 0:
        moved += series.range or 0
    if moved < 0:
        raise _Unbelievable("the counter went backwards (driver reloaded?)")
    # Two readings `gap` apart hold at most gap / period + 1 updates.
    longest_s = gap_s + (series.period_s or FALLBACK_PERIOD_S)
    joules = moved * UNITS[series.unit]
    if series.limit_W is not None and joules > series.limit_W * longest_s:
        raise _Unbelievable(f"implies {joules / gap_s:.0f} W, more than {series.limit_W:.0f} W")
    return moved
