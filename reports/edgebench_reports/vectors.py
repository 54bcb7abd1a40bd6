"""Small pictures drawn here: SVG without a script, in the page's own colours, numbers only.

Texts that come from bundles pass through Jinja's escaping like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 12, 40
FEWEST_STEPS = 4
WHISKER_WIDTH, WHISKER_HEIGHT, WHISKER_PAD = 170, 22, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series: its name, its CSS class, its points."""

    name: str
    tone: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A span of the x axis that is shaded, and what it says."""

    start: float
    stop: float
    name: str


def lines(
    series: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    from_zero: bool = True,
    bands: Sequence[Band] = (),
) -> Markup:
    """Draw some series over two linear axes, one of one point as a dot; empty without a line."""
    shown = [one for one in series if one.points]
    if not any(len(one.points) > 1 for one in shown):
        return Markup("")
    xs = [x for one in shown for x, _ in one.points]
    ys = [y for one in shown for _, y in one.points]
    x_range = min(xs), max(xs)
    y_range = (min(0.0, *ys) if from_zero else min(ys)), max(ys)
    x_at = _scale(x_range, LEFT, WIDTH - RIGHT)
    y_at = _scale(y_range, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x_range, y_range, x_title, y_title)]
    parts += [_band(band, x_range, x_at) for band in bands]
    for one in shown:
        if len(one.points) == 1:
            ((x, y),) = one.points
            parts.append(
                Markup(
                    '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>'
                ).format(one.tone, x_at(x), y_at(y), one.name)
            )
            continue
        path = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in one.points)
        parts.append(
            Markup('<polyline class="line {}" points="{}"><title>{}</title></polyline>').format(
                one.tone, path, one.name
            )
        )
    said = [one.name for one in shown] + list(dict.fromkeys(band.name for band in bands))
    label = f"{y_title} over {x_title}: {', '.join(said)}"
    return _svg(WIDTH, HEIGHT, label, parts)


def _band(band: Band, x_range: Point, x_at: Callable[[float], float]) -> Markup:
    start, stop = (min(max(x, x_range[0]), x_range[1]) for x in (band.start, band.stop))
    return Markup(
        '<rect class="held" x="{:.1f}" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>'
    ).format(x_at(start), TOP, max(1.0, x_at(stop) - x_at(start)), HEIGHT - BOTTOM - TOP, band.name)


def whisker(low: float, middle: float, high: float, *, limit: float) -> Markup:
    """Draw an interval of a change in percent against no change, with the limit shaded."""
    reach = max(abs(low), abs(high), limit) * 1.1 or 1.0
    at = _scale((-reach, reach), WHISKER_PAD, WHISKER_WIDTH - WHISKER_PAD)
    y = WHISKER_HEIGHT / 2
    parts = [
        Markup('<rect class="limit" x="{:.1f}" y="2" width="{:.1f}" height="18"/>').format(
            at(-limit), at(limit) - at(-limit)
        ),
        Markup('<line class="zero" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="22"/>').format(at(0.0)),
        Markup('<line class="span" x1="{:.1f}" x2="{:.1f}" y1="{y}" y2="{y}"/>').format(
            at(low), at(high), y=y
        ),
        Markup('<circle class="dot" cx="{:.1f}" cy="{}" r="4"/>').format(at(middle), y),
    ]
    label = f"{middle:+.1f} percent, between {low:+.1f} and {high:+.1f}; limit {limit:.1f}"
    return _svg(WHISKER_WIDTH, WHISKER_HEIGHT, label, parts)


def _scale(values: tuple[float, float], start: float, stop: float) -> Callable[[float], float]:
    low, span = values[0], values[1] - values[0]
    step = (stop - start) / span if span else 0.0
    return lambda value: start + (value - low) * step


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers within a range: steps of 1, 2 or 5 times a power of ten, four to ten."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / FEWEST_STEPS))
    step = max(m * power for m in (1, 2, 5) if m * power * FEWEST_STEPS <= span * (1 + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def _axes(x_range: Point, y_range: Point, x_title: str, y_title: str) -> Markup:
    x_at = _scale(x_range, LEFT, WIDTH - RIGHT)
    y_at = _scale(y_range, HEIGHT - BOTTOM, TOP)
    # ten thousand pages: numbers alone need no escaping
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_at(y):.1f}" '
        f'y2="{y_at(y):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y_at(y) + 4:.1f}" text-anchor="end">{y:.6g}</text>'
        for y in ticks(*y_range)
    ]
    parts += [
        f'<text x="{x_at(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:.6g}</text>'
        for x in ticks(*x_range)
    ]
    middle = (HEIGHT - BOTTOM + TOP) / 2
    titles = Markup(
        '<text x="{}" y="{}" text-anchor="middle">{}</text>'
        '<text transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>'
    ).format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_title, middle, y_title)
    return Markup("".join(parts)) + titles  # noqa: S704  numbers


def _svg(width: int, height: int, label: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}">').format(
        width, height, width, label
    )
    return head + Markup("").join(parts) + Markup("</svg>")
