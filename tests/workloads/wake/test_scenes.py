"""Scenes: the same everywhere, half of them wake, and no split sees another's handwriting."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_workloads.wake.glyphs import FULL_INK, load, render
from edgebench_workloads.wake.scenes import SIDE, SPLITS, WAKE_DIGIT, scene, scenes, scenes_sha256


def test_a_scene_is_a_function_of_its_name() -> None:
    assert scenes_sha256(list(scenes("scored", 8))) == scenes_sha256(list(scenes("scored", 8)))
    assert scenes_sha256([scene("scored", 0)]) != scenes_sha256([scene("training", 0)])
    assert scenes_sha256(list(scenes("scored", 16))) == (
        "f6dc9ffe48e949a5498dbacb9f03e2ff8f923acb95c3933355e21cadc2236822"
    )


def test_half_of_the_scenes_wake() -> None:
    answers = [one.is_wake for one in scenes("scored", 100)]
    assert sum(answers) == 50
    assert all(one.image.shape == (SIDE, SIDE) for one in scenes("calibration", 3))


def test_splits_are_disjoint_and_cover_the_digits() -> None:
    taken = [index for block in SPLITS.values() for index in range(*block)]
    assert sorted(taken) == list(range(len(load().labels)))


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_enough_wake_digits(split: str) -> None:
    labels = load().labels[slice(*SPLITS[split])]
    assert (labels == WAKE_DIGIT).sum() >= 20


def test_an_unturned_digit_of_its_own_size_is_itself() -> None:
    ink = load().ink[0]
    assert np.array_equal(render(ink, 8, 0), ink * 256)


def test_ink_is_kept_when_a_digit_grows() -> None:
    ink = load().ink[WAKE_DIGIT].copy()
    ink[[0, -1]] = 0  # half of an edge's ink is spread outside the square
    ink[:, [0, -1]] = 0
    drawn = render(ink, 32, 0)
    assert drawn.max() <= FULL_INK * 256
    assert drawn.sum() / 256 / 16 == pytest.approx(ink.sum(), rel=0.02)


def test_turning_there_and_back_keeps_the_middle() -> None:
    ink = load().ink[5]
    left, right = render(ink, 33, 15), render(ink[:, ::-1], 33, -15)
    assert np.abs(left - right[:, ::-1]).max() <= 256  # a mirror turns the other way
