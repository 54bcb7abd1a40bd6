"""The machine over a run, from its condition log: clocks, heat, what held it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgebench.record import Conditions, ConditionSample
from edgebench_reports.vectors import Band, Line, lines

POINTS = 200  # of one line: ten thousand pages must stay small
OLD = "The record is of a version that kept no condition log."
BLIND = "This machine shows neither clocks nor temperatures; nothing is estimated."
UNSEEN = "This machine does not tell whether anything held it back."
FREE = "Nothing held the machine back."


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionPlot:
    """What a submission's page shows of the machine's state."""

    clocks: Markup
    clock_names: tuple[tuple[str, str], ...]
    """(name, CSS class) of every line of the clocks."""
    heat: Markup
    held: tuple[str, ...]
    """What held the machine back, with its share of the readings, or that nothing did."""
    missing: str | None
    """Why there is no picture."""


def condition_plot(conditions: Conditions | None) -> ConditionPlot:
    """Draw a condition log; what the machine does not show has no line, and is said."""
    if conditions is None:
        empty = Markup("")
        return ConditionPlot(clocks=empty, clock_names=(), heat=empty, held=(), missing=OLD)
    points = _thinned(conditions.timeline)
    bands = _bands(points)
    clocks = [
        line
        for name, tone, value in (
            ("GPU clock", "power0", lambda one: one.gpu_clock_MHz),
            ("CPU clock, slowest core", "power1", lambda one: one.cpu_clock_MHz),
        )
        if len((line := _line(name, tone, points, value)).points) > 1
    ]
    heat = _line("hottest sensor", "power3", points, lambda one: one.hottest_C)
    drawn = lines(clocks, "s", "MHz", bands=bands)
    warm = lines([heat], "s", "°C", from_zero=False, bands=bands)
    return ConditionPlot(
        clocks=drawn,
        clock_names=tuple((line.name, line.tone) for line in clocks),
        heat=warm,
        held=_held(conditions),
        missing=None if drawn or warm else BLIND,
    )


def _line(
    name: str,
    tone: str,
    points: Sequence[ConditionSample],
    value: Callable[[ConditionSample], float | None],
) -> Line:
    known = [(one.at_s, y) for one in points if (y := value(one)) is not None]
    return Line(name=name, tone=tone, points=known)


def _thinned(timeline: Sequence[ConditionSample]) -> list[ConditionSample]:
    """Return at most POINTS samples: of those that share one, the slowest clock and the hottest."""
    each = -(-len(timeline) // POINTS) or 1
    return [_worst(timeline[start : start + each]) for start in range(0, len(timeline), each)]


def _worst(group: Sequence[ConditionSample]) -> ConditionSample:
    def known(values: Sequence[float | None]) -> list[float]:
        return [value for value in values if value is not None]

    return ConditionSample(
        at_s=group[0].at_s,
        gpu_clock_MHz=min(known([one.gpu_clock_MHz for one in group]), default=None),
        cpu_clock_MHz=min(known([one.cpu_clock_MHz for one in group]), default=None),
        hottest_C=max(known([one.hottest_C for one in group]), default=None),
        held_back_by=list(dict.fromkeys(name for one in group for name in one.held_back_by))[:20],
    )


def _bands(points: Sequence[ConditionSample]) -> list[Band]:
    """Return the spans in which the same things held the machine back, up to the next reading."""
    bands: list[Band] = []
    ends = [one.at_s for one in points[1:]] + [one.at_s for one in points[-1:]]
    for one, end in zip(points, ends, strict=True):
        if not one.held_back_by:
            continue
        name = "held back by " + ", ".join(one.held_back_by)
        if bands and bands[-1].name == name and bands[-1].stop == one.at_s:
            bands[-1] = Band(start=bands[-1].start, stop=end, name=name)
        else:
            bands.append(Band(start=one.at_s, stop=end, name=name))
    return bands


def _held(conditions: Conditions) -> tuple[str, ...]:
    if conditions.held_back:
        return tuple(
            f"{name}: {100 * share:.0f} % of {conditions.readings} readings"
            for name, share in conditions.held_back.items()
        )
    return (FREE if conditions.sees_throttling else UNSEEN,)
