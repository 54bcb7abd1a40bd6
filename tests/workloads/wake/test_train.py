"""Training of the supernet: resume changes nothing, the phases, the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from edgebench_workloads.wake import train  # noqa: E402

TINY = train.Settings(out=Path(), steps=6, batch=2, threads=1, workers=0, every_steps=6)


@pytest.fixture(autouse=True)
def few_and_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    for name, value in {
        "VALIDATION_COUNT": 4, "CALIBRATION_BATCH": 4, "CALIBRATION_BATCHES": 1,
    }.items():  # fmt: skip
        monkeypatch.setattr(train, name, value)
    train.calibration_images.cache_clear()
    yield
    train.calibration_images.cache_clear()
    torch.set_num_threads(threads)


def test_resume_gives_the_weights_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole = train.train(replace(TINY, out=tmp_path / "whole"))
    train.train(replace(TINY, out=tmp_path / "parts", stop_after=4))  # the teacher is there by then
    parts = train.train(replace(TINY, out=tmp_path / "parts", resume=True))
    assert parts.losses == whole.losses
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, parts.net.state_dict()[name]), name
    assert whole.curve[-1]["phase"] == "expand"
    assert "smallest_top1" in whole.curve[-1]


def test_the_phases_cover_all_steps_in_order() -> None:
    found = [train.phase_at(step, 1000) for step in range(1000)]
    names = [phase.name for phase, _, _ in found]
    assert sorted(set(names), key=names.index) == [p.name for p in train.PHASES]
    assert names.count("full") == 400
    assert all(0 <= within < count for _, within, count in found)
