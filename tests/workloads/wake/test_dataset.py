"""The pinned data sets: verified whenever read, and sharing no handwriting."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.errors import WorkloadAssetError
from edgebench_workloads.wake import dataset
from edgebench_workloads.wake.scenes import SPLITS


def test_the_sets_are_the_pinned_ones() -> None:
    workload = WORKLOADS["wake"]
    scored, calibration = workload.scored_scenes(), workload.calibration_scenes()
    data = workload.task.data
    assert (len(scored), len(calibration)) == (data.scored_count, data.calibration_count)
    assert sum(scene.is_wake for scene in scored) == len(scored) // 2
    head = dataset.training_pairs(data.training_head_count)
    assert dataset.pairs_sha256(head) == data.training_head_sha256


def test_no_digit_is_in_two_splits() -> None:
    blocks = [set(range(*block)) for block in SPLITS.values()]
    assert sum(map(len, blocks)) == len(set.union(*blocks)) == 1797


def test_other_images_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dataset, "SCORED_COUNT", 8)
    with pytest.raises(WorkloadAssetError, match="wake/scored"):
        WORKLOADS["wake"].scored_scenes()
