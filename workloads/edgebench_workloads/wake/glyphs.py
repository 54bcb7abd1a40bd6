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


def render(ink: Ink, size: int, degrees: int) -> Ink:
    """Scale [8, 8] of ink to [size, size], turned about its middle; 0..16 * 256, bilinear."""
    cosine, sine = _TURNS[degrees]
    middle = (2 * np.arange(size, dtype=np.int64) + 1 - size) * (GRID * ONE // (2 * size))
    across, down = middle[None, :], middle[:, None]
    # Where each pixel's middle lies among the source's pixels, whose middles are at 0, ONE, ...
    half = (GRID - 1) * ONE // 2
    x = ((across * cosine + down * sine) >> 16) + half
    y = ((down * cosine - across * sine) >> 16) + half
    padded = np.pad(ink, 1)
    left, top = np.clip(x >> 16, -1, GRID - 1), np.clip(y >> 16, -1, GRID - 1)
    right_share = np.clip((x - (left << 16)) >> 8, 0, 256)
    low_share = np.clip((y - (top << 16)) >> 8, 0, 256)
    left, top = left + 1, top + 1
    upper = padded[top, left] * (256 - right_share) + padded[top, left + 1] * right_share
    lower = padded[top + 1, left] * (256 - right_share) + padded[top + 1, left + 1] * right_share
    inside = (abs(x - half) <= half + ONE) & (abs(y - half) <= half + ONE)
    return np.where(inside, (upper * (256 - low_share) + lower * low_share) >> 8, 0)
