"""The highest power, and the power that it stays under for 95 % of the time.

A reading of power is taken as it came. A counter's single step says little, because its updates
and our readings drift against each other (a step of 0 and one of twice the power are neighbours):
its power is the mean over stretches of at least half a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COUNTER_STRETCH_NS = 500_000_000
SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The energy of one domain between two readings."""

    start_ns: int
    end_ns: int
    joules: float

    @property
    def length_ns(self) -> int:
        """How long it lasted."""
        return self.end_ns - self.start_ns


def highest(
    parts: Sequence[Sequence[Piece]], *, is_counter: bool
) -> tuple[float | None, float | None]:
    """Return (peak, 95th percentile) of the parts' sum in W, weighted by time.

    (None, None) where the parts were not read at the same times, or no stretch is long enough.
    """
    spans = [[(piece.start_ns, piece.end_ns) for piece in part] for part in parts]
    if not spans or any(each != spans[0] for each in spans):
        return None, None
    summed = [
        Piece(start_ns=span[0], end_ns=span[1], joules=sum(piece.joules for piece in together))
        for span, together in zip(spans[0], zip(*parts, strict=True), strict=True)
    ]
    stretches = list(_stretches(summed) if is_counter else summed)
    levels = sorted((p.joules / p.length_ns * 1e9, p.length_ns) for p in stretches if p.length_ns)
    if not levels:
        return None, None
    return levels[-1][0], _quantile(levels)


def _stretches(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """Join neighbours until a stretch is long enough; what is left over at a gap says nothing."""
    start_ns = end_ns = 0
    joules = 0.0
    for piece in pieces:
        if piece.start_ns != end_ns:
            start_ns, joules = piece.start_ns, 0.0
        end_ns = piece.end_ns
        joules += piece.joules
        if end_ns - start_ns >= COUNTER_STRETCH_NS:
            yield Piece(start_ns=start_ns, end_ns=end_ns, joules=joules)
            start_ns, joules = end_ns, 0.0


def _quantile(levels: Sequence[tuple[float, int]]) -> float:
    """Return the lowest level that holds for SHARE of the time; levels are (W, ns), ascending."""
    needed_ns = SHARE * sum(length_ns for _, length_ns in levels)
    passed_ns = 0
    for watts, length_ns in levels:
        passed_ns += length_ns
        if passed_ns >= needed_ns:
            return watts
    return levels[-1][0]
