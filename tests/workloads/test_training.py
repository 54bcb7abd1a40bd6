"""The frame of training scripts: command line, checkpoints, clock, curve."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from edgebench_workloads import training  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(training.Settings):
    steps: int = 6
    batch: int = 2
    every_steps: int = 4
    threads: int = 1
    workers: int = 0
    rate: float = 0.1


@dataclass(slots=True, kw_only=True)
class Run(training.Run):
    model: torch.nn.Linear

    def parts(self) -> Mapping[str, training.Stateful]:
        return {"model": self.model}


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def drawn(step: int) -> float:
    return float(step + 1)


def trained(settings: Settings, broken_at: int | None = None) -> Run:
    model = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(model.weight)
    run = Run(model=model)
    if settings.resume:
        training.restore(run, training.read_checkpoint(settings))

    def step(aim: float) -> float:
        with torch.no_grad():
            model.weight += settings.rate * (aim - model.weight)
        return float("nan") if run.step == broken_at else abs(aim - model.weight.item())

    batches = training.drawn_ahead(drawn, range(run.step, settings.end), run, settings)
    training.train_on(run, settings, batches, step, lambda: {"weight": model.weight.item()})
    return run


def test_resume_equals_a_run_that_never_stopped(tmp_path: Path) -> None:
    whole = trained(Settings(out=tmp_path / "whole"))
    trained(Settings(out=tmp_path / "parts", stop_after=3))
    parts = trained(Settings(out=tmp_path / "parts", resume=True))
    assert parts.losses == whole.losses
    assert len(whole.losses) == 6
    assert parts.model.weight.item() == whole.model.weight.item()
    assert [p["step"] for p in parts.curve] == [3, 4, 6]
    assert parts.seconds >= 0


def test_the_curve_says_what_its_stretch_had(tmp_path: Path) -> None:
    run = trained(Settings(out=tmp_path))
    curve = json.loads((tmp_path / "learning_curve.json").read_text())
    assert [(p["step"], p["examples"]) for p in curve] == [(4, 8), (6, 12)]
    assert curve[1]["loss"] == pytest.approx(sum(run.losses[4:]) / 2, abs=1e-5)
    assert curve[1]["weight"] == run.model.weight.item()
    assert not list(tmp_path.glob("*.new"))


def busy(step: int) -> tuple[int, float]:
    """Who drew it; takes some time of its own."""
    sum(range(2_000_000))
    return os.getpid(), float(step)


def test_time_of_those_who_draw_is_counted_once(tmp_path: Path) -> None:
    for workers in (0, 1):
        run = Run(model=torch.nn.Linear(1, 1))
        settings = Settings(out=tmp_path, workers=workers)
        made = list(training.drawn_ahead(busy, range(3), run, settings))
        assert [value for _, value in made] == [0.0, 1.0, 2.0]
        assert (made[0][0] == os.getpid()) == (workers == 0)
        assert (run.cpu_seconds > 0) == (workers == 1)


def test_a_loss_that_is_no_number_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="got nan at step 3; lower"):
        trained(Settings(out=tmp_path), broken_at=2)


def test_resume_without_a_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--resume needs"):
        trained(Settings(out=tmp_path, resume=True))


def test_every_field_is_an_option(tmp_path: Path) -> None:
    given = ["--out", str(tmp_path), "--rate", "0.5", "--stop-after", "3", "--resume"]
    settings = training.parse_settings(Settings, "doc", given)
    assert settings == replace(Settings(out=tmp_path), rate=0.5, stop_after=3, resume=True)
    assert settings.end == 3


@pytest.mark.parametrize("given", [[], ["--out", "x", "--rate", "fast"], ["--out", "x", "--no"]])
def test_what_is_no_option_is_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        training.parse_settings(Settings, "doc", given)
    assert stopped.value.code == 2


def test_the_ends_of_a_run() -> None:
    assert training.first_and_last([3.0, *[1.0] * 8, 2.0]) == (3.0, 2.0)
    assert training.first_and_last([4.0]) == (4.0, 4.0)
