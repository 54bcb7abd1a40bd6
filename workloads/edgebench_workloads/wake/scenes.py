"""Cluttered scenes, 96x96 grey: a pure function of (split, number).

A scene holds one to three whole digits in four cells, each of another size, angle, contrast and
polarity; halves of digits in the cells left over; a slope of light; noise. In every other scene one
of the digits is the wake digit. How many digits there are says nothing about which: positives and
negatives draw it alike. Splits share no handwriting: their digits come from disjoint index blocks.
Those are few writers, so training scenes write every digit otherwise (slanted, stretched, bent,
with another pen), and the other splits as it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from edgebench_workloads.draws import Draws
from edgebench_workloads.wake.glyphs import (
    AS_WRITTEN,
    FULL_INK,
    MAX_DEGREES,
    Hand,
    Ink,
    load,
    render,
)

WAKE_DIGIT = 3
SIDE = 96
CELL = SIDE // 2
CELLS = ((0, 0), (0, CELL), (CELL, 0), (CELL, CELL))

SPLITS = {"training": (0, 1197), "calibration": (1197, 1437), "scored": (1437, 1797)}
"""Index blocks of the bundled digits, first and one past the last."""
SCORED_COUNT = 2_000
CALIBRATION_COUNT = 512

SIZES = (26, 44)  # pixels of a whole digit's square
CONTRASTS = (60, 120)  # grey levels of full ink
LEVELS = (70, 185)  # grey levels of the ground
SLOPE = 40  # grey levels from one edge to the other, at most
NOISE = (4, 14)  # grey levels, at most, either way

VARIED = "training"
SLANT = 80  # 256ths of the height, at most, either way
STRETCH = (170, 260)  # 256ths
STROKE = (-110, 140)  # 256ths of the way to the least and the most ink around
BEND = 150  # 256ths of a pixel of 8x8, at most, either way

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One image uint8 [96, 96], and whether the wake digit is in it."""

    image: Image
    is_wake: bool


def scene(split: str, number: int) -> Scene:
    """Compose one scene; `validation` draws other scenes from the calibration block's digits."""
    draws = Draws(f"edgebench-wake/{split}/{number}")
    digits = _block(_block_of(split))
    is_wake = number % 2 == 1
    canvas = _ground(draws, f"edgebench-wake/{split}/{number}/noise")
    cells = _shuffled(CELLS, draws)
    whole = 1 + draws.below(3)
    for place, cell in enumerate(cells):
        if place < whole:
            ink = digits.wake(draws) if is_wake and place == 0 else digits.other(draws)
            _draw(canvas, ink, cell, draws, is_varied=split == VARIED)
        elif draws.chance(80):
            half = _half(digits.other(draws), draws)
            _draw(canvas, half, cell, draws, is_varied=split == VARIED)
    return Scene(image=np.clip(canvas >> 8, 0, 255).astype(np.uint8), is_wake=is_wake)


def scenes(split: str, count: int, start: int = 0) -> Iterator[Scene]:
    """Scenes start, start + 1, ... of a split, half of them with the wake digit."""
    return (scene(split, number) for number in range(start, start + count))


def scenes_sha256(found: Sequence[Scene]) -> str:
    """Hash images and answers in order."""
    digest = hashlib.sha256()
    for one in found:
        digest.update(one.image.tobytes())
        digest.update(bytes([one.is_wake]))
    return digest.hexdigest()


class _Block:
    """One split's digits, apart by whether they wake."""

    def __init__(self, block: tuple[int, int]) -> None:
        digits = load()
        ink, labels = digits.ink[slice(*block)], digits.labels[slice(*block)]
        self._wake, self._other = ink[labels == WAKE_DIGIT], ink[labels != WAKE_DIGIT]

    def wake(self, draws: Draws) -> Ink:
        return self._wake[draws.below(len(self._wake))]

    def other(self, draws: Draws) -> Ink:
        return self._other[draws.below(len(self._other))]


@cache
def _block(bounds: tuple[int, int]) -> _Block:
    return _Block(bounds)


def _block_of(split: str) -> tuple[int, int]:
    return SPLITS["calibration" if split == "validation" else split]


def _shuffled(cells: Sequence[tuple[int, int]], draws: Draws) -> list[tuple[int, int]]:
    left = list(cells)
    return [left.pop(draws.below(len(left))) for _ in cells]


def _between(bounds: tuple[int, int], draws: Draws) -> int:
    return bounds[0] + draws.below(bounds[1] - bounds[0] + 1)


def _ground(draws: Draws, noise_name: str) -> Ink:
    """A level, a slope and noise: grey levels * 256, int64 [96, 96]."""
    steps = np.arange(SIDE, dtype=np.int64)
    across, down = (_between((-SLOPE, SLOPE), draws) * 256 // SIDE for _ in range(2))
    canvas = (_between(LEVELS, draws) << 8) + across * steps[None, :] + down * steps[:, None]
    grain = np.frombuffer(hashlib.shake_256(noise_name.encode()).digest(SIDE * SIDE), np.uint8)
    return canvas + (grain.reshape(SIDE, SIDE).astype(np.int64) - 128) * 2 * _between(NOISE, draws)


def _draw(canvas: Ink, ink: Ink, cell: tuple[int, int], draws: Draws, *, is_varied: bool) -> None:
    """Draw ink somewhere in its cell, lighter or darker than what is there."""
    size = _between(SIZES, draws)
    degrees = _between((-MAX_DEGREES, MAX_DEGREES), draws)
    drawn = render(ink, size, degrees, _hand(draws) if is_varied else AS_WRITTEN)
    strength = _between(CONTRASTS, draws) * (1 if draws.chance(50) else -1)
    top, left = (edge + draws.below(CELL - size + 1) for edge in cell)
    canvas[top : top + size, left : left + size] += drawn * strength // FULL_INK


def _hand(draws: Draws) -> Hand:
    """Somebody else's handwriting."""
    bends = [_between((-BEND, BEND), draws) for _ in range(18)]
    return Hand(
        slant=_between((-SLANT, SLANT), draws),
        wide=_between(STRETCH, draws),
        tall=_between(STRETCH, draws),
        stroke=_between(STROKE, draws),
        bends=np.array(bends, dtype=np.int64).reshape(2, 3, 3) << 8,
    )


def _half(ink: Ink, draws: Draws) -> Ink:
    """Clutter: half of a digit, upright or on its side, so that strokes alone wake nothing."""
    half = ink.copy()
    if draws.chance(50):
        half[: len(half) // 2] = 0
    else:
        half[len(half) // 2 :] = 0
    return np.rot90(half, draws.below(4))
