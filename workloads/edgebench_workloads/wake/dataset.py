"""The data sets of `wake`: scored, calibration and training scenes, each an image and its answer.

Composing a scene takes milliseconds, so a process composes each set once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from edgebench_workloads.wake.scenes import (
    CALIBRATION_COUNT,
    SCORED_COUNT,
    Scene,
    scenes,
    scenes_sha256,
)

CALIBRATION_BATCHES, CALIBRATION_BATCH = 8, 64
"""Of training scenes, the first: a subnet's norms take their statistics."""
MOST_UNSEEN = 1 << 20


@cache
def _split(split: str, count: int) -> tuple[Scene, ...]:
    return tuple(scenes(split, count))


def scored_pairs() -> list[Scene]:
    """The scored set, half of it with the wake digit."""
    return list(_split("scored", SCORED_COUNT))


def unseen_scenes(size: int, seed: int) -> list[Scene]:
    """Fresh scenes of a seed's own, drawn as the scored ones were; for audits.

    They hold the scored set's handwriting in other scenes; half of them have the wake digit. Two
    seeds share none below MOST_UNSEEN of them.
    """
    start = SCORED_COUNT + MOST_UNSEEN * (1 + seed)
    return list(scenes("scored", min(size, MOST_UNSEEN), start))


def calibration_pairs() -> list[Scene]:
    """The calibration set, from digits that no scored scene holds."""
    return list(_split("calibration", CALIBRATION_COUNT))


def training_pairs(count: int) -> list[Scene]:
    """The first training scenes."""
    return list(scenes("training", count))


def pairs_sha256(pairs: Sequence[Scene]) -> str:
    """Hash images and answers in order."""
    return scenes_sha256(pairs)
