"""Handwritten digits and how one is drawn into an image: integer arithmetic alone.

The digits are scikit-learn's `load_digits` (UCI Optical Recognition of Handwritten Digits, 1,797 of
8x8 pixels, 17 levels of ink). No floating point touches a pixel, so that every machine draws the
same image: positions are fixed point with 16 bits, and the only table is one of rounded cosines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Ink = npt.NDArray[np.int64]

GRID = 8
FULL_INK = 16
ONE = 1 << 16
MAX_DEGREES = 20
_TURNS = {
    degrees: (
        round(ONE * math.cos(math.radians(degrees))),
        round(ONE * math.sin(math.radians(degrees))),
    )
    for degrees in range(-MAX_DEGREES, MAX_DEGREES + 1)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """How a digit is written otherwise than it was; the defaults leave it as it is.

    slant: how far the top leans, in 256ths of the height.   wide, tall: 256ths of its size.
    stroke: 256ths of the way to the most ink among its neighbours, below 0 to the least.
    bends: int64 [2, 3, 3], how far x and y of nine places are moved; ONE is a pixel of 8x8.
    """

    slant: int = 0
    wide: int = 256
    tall: int = 256
    stroke: int = 0
    bends: Ink | None = None


AS_WRITTEN = Hand()


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """The bundled digits: ink int64 [1797, 8, 8] of 0..16, and which digit each is [1797]."""

    ink: Ink
    labels: npt.NDArray[np.int64]


@cache
def load() -> Digits:
    """Read the digits that scikit-learn brings."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return Digits(
        ink=np.asarray(found.images).astype(np.int64), labels=np.asarray(found.target, np.int64)
    )


def render(ink: Ink, size: int, degrees: int, hand: Hand = AS_WRITTEN) -> Ink:
    """Scale [8, 8] of ink to [size, size], turned about its middle; 0..16 * 256, bilinear."""
    cosine, sine = _TURNS[degrees]
    middle = (2 * np.arange(size, dtype=np.int64) + 1 - size) * (GRID * ONE // (2 * size))
    across, down = middle[None, :], middle[:, None]
    # Where each pixel's middle lies among the source's pixels, whose middles are at 0, ONE, ...
    half = (GRID - 1) * ONE // 2
    x, y = _rewritten(
        (across * cosine + down * sine) >> 16, (down * cosine - across * sine) >> 16, hand
    )
    x, y = x + half, y + half
    padded = np.pad(_stroked(ink, hand.stroke), 1)
    left, top = np.clip(x >> 16, -1, GRID - 1), np.clip(y >> 16, -1, GRID - 1)
    right_share = np.clip((x - (left << 16)) >> 8, 0, 256)
    low_share = np.clip((y - (top << 16)) >> 8, 0, 256)
    left, top = left + 1, top + 1
    upper = padded[top, left] * (256 - right_share) + padded[top, left + 1] * right_share
    lower = padded[top + 1, left] * (256 - right_share) + padded[top + 1, left + 1] * right_share
    inside = (abs(x - half) <= half + ONE) & (abs(y - half) <= half + ONE)
    return np.where(inside, (upper * (256 - low_share) + lower * low_share) >> 8, 0)


def _rewritten(x: Ink, y: Ink, hand: Hand) -> tuple[Ink, Ink]:
    """Where a pixel's ink comes from, fixed point about the middle, as the hand writes."""
    if hand is AS_WRITTEN:
        return x, y
    x, y = x * 256 // hand.wide + (hand.slant * y >> 8), y * 256 // hand.tall
    if hand.bends is None:
        return x, y
    # The nine places lie at the edges and in the middle of 8x8; between them it is bilinear.
    column, row = (
        np.clip((part + GRID * ONE // 2) // (GRID // 2), 0, 2 * ONE - 1) for part in (x, y)
    )
    left, top = column >> 16, row >> 16
    right_share, low_share = (column & ONE - 1) >> 8, (row & ONE - 1) >> 8
    moved = []
    for part, bend in zip((x, y), hand.bends, strict=True):
        upper = bend[top, left] * (256 - right_share) + bend[top, left + 1] * right_share
        lower = bend[top + 1, left] * (256 - right_share) + bend[top + 1, left + 1] * right_share
        moved.append(part + ((upper * (256 - low_share) + lower * low_share) >> 16))
    return moved[0], moved[1]


def _stroked(ink: Ink, stroke: int) -> Ink:
    """Ink [8, 8] of a broader pen (above 0) or a finer one."""
    if stroke == 0:
        return ink
    padded = np.pad(ink, 1, mode="edge")
    around = np.stack([padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]])
    limit = np.maximum(around.max(0), ink) if stroke > 0 else np.minimum(around.min(0), ink)
    return ink + ((limit - ink) * abs(stroke) >> 8)
