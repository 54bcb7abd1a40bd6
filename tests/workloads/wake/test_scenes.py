"""Scenes: the same everywhere, half of them wake, and no split sees another's handwriting."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_workloads.wake.glyphs import FULL_INK, ONE, Hand, load, render
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


def test_a_hand_that_changes_nothing_writes_the_same() -> None:
    ink = load().ink[7]
    still = Hand(bends=np.zeros((2, 3, 3), dtype=np.int64))
    assert np.array_equal(render(ink, 30, 7, still), render(ink, 30, 7))


def test_a_bend_moves_one_corner_and_leaves_the_opposite() -> None:
    ink = load().ink[8]
    bends = np.zeros((2, 3, 3), dtype=np.int64)
    bends[0, 0, 0] = ONE
    bent, plain = render(ink, 32, 0, Hand(bends=bends)), render(ink, 32, 0)
    assert not np.array_equal(bent[:16, :16], plain[:16, :16])
    assert np.array_equal(bent[16:, 16:], plain[16:, 16:])


def test_a_slant_leans_the_top_and_keeps_the_middle() -> None:
    column = np.zeros((8, 8), dtype=np.int64)
    column[:, 3:5] = FULL_INK
    drawn = render(column, 32, 0, Hand(slant=64))
    middles = [(row * np.arange(32)).sum() / row.sum() for row in drawn[4:28]]
    assert np.all(np.diff(middles) <= 0)
    assert middles[0] - middles[-1] == pytest.approx(24 * 64 / 256, abs=1)


def test_pens_are_broader_and_finer() -> None:
    ink = load().ink[2]
    amounts = [render(ink, 24, 0, Hand(stroke=stroke)).sum() for stroke in (-128, 0, 128)]
    assert amounts == sorted(amounts)
    assert amounts[0] < amounts[1] < amounts[2]


def test_only_training_scenes_are_written_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(draws: object) -> Hand:
        raise AssertionError("another hand")

    monkeypatch.setattr("edgebench_workloads.wake.scenes._hand", refuse)
    for split in ("validation", "calibration", "scored"):
        scene(split, 1)
    with pytest.raises(AssertionError, match="another hand"):
        scene("training", 1)
