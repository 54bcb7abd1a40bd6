"""What the training scripts share: command line, checkpoints, clock and learning curve.

A script has `Settings` and a `Run` of its own, made from these two, and gives `train_on` its step
and what to say at every checkpoint. OUT/checkpoint.pt holds everything that --resume needs; it
and OUT/learning_curve.json are replaced whole.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_type_hints

import torch
from torch.utils.data import DataLoader

CHECKPOINT, CURVE = "checkpoint.pt", "learning_curve.json"

Batch = TypeVar("Batch")
Own = TypeVar("Own", bound="Settings")


class Stateful(Protocol):
    """A module or an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """All that it holds."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Hold this instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every run is told; each is an option of the script's command line."""

    out: Path
    seed: int = 2026
    steps: int
    batch: int
    threads: int = 2
    workers: int = field(
        default=1,
        metadata={"help": "processes that draw ahead; 0 draws between the steps"},
    )
    device: str = field(default="cpu", metadata={"help": "cpu or cuda"})
    every_steps: int
    resume: bool = False
    stop_after: int | None = field(
        default=None, metadata={"help": "stop at this step, with a checkpoint"}
    )

    @property
    def end(self) -> int:
        """The step to stop at."""
        return min(self.steps, self.stop_after or self.steps)


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of this process and of those that draw."""
    losses: list[float] = field(default_factory=list)
    """Of every step."""
    curve: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Run(Progress, ABC):
    """The state of a run between two steps: the script's own parts, and how far it has come."""

    @abstractmethod
    def parts(self) -> Mapping[str, Stateful]:
        """What a checkpoint holds, by name."""


def parse_settings(own: type[Own], doc: str | None, argv: list[str] | None = None) -> Own:
    """A script's command line: an option for each field of its settings, with the field's default.

    Raises SystemExit(2), as argparse does, for what is no such option.
    """
    parser = argparse.ArgumentParser(description=doc)
    kinds = get_type_hints(own)
    for each in fields(own):
        option, told = f"--{each.name.replace('_', '-')}", each.metadata.get("help")
        if kinds[each.name] is bool:
            parser.add_argument(option, action="store_true", help=told)
        elif each.name == "out":
            parser.add_argument(option, type=Path, required=True)
        else:
            kind = int if kinds[each.name] == int | None else kinds[each.name]
            parser.add_argument(option, type=kind, default=each.default, help=told)
    return own(**vars(parser.parse_args(argv)))


def save(run: Run, settings: Settings) -> None:
    """Write OUT/checkpoint.pt and OUT/learning_curve.json."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in run.parts().items()}
    state |= {each.name: getattr(run, each.name) for each in fields(Progress)}
    out = settings.out
    torch.save(state, out / "checkpoint.new")
    (out / "checkpoint.new").replace(out / CHECKPOINT)
    (out / "learning_curve.new").write_text(json.dumps(run.curve, indent=1) + "\n")
    (out / "learning_curve.new").replace(out / CURVE)


def read_checkpoint(settings: Settings) -> dict[str, Any]:
    """What `save` wrote, its tensors on the run's device; FileNotFoundError where it is not."""
    path = settings.out / CHECKPOINT
    if not path.exists():
        raise FileNotFoundError(
            f"[training] --resume needs {path}, which is not there; start without it"
        )
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location=settings.device)
    return state


def restore(run: Run, state: Mapping[str, Any]) -> None:
    """Put a run back to where a checkpoint left it."""
    for name, part in run.parts().items():
        part.load_state_dict(state[name])
    for each in fields(Progress):
        setattr(run, each.name, state[each.name])


@dataclass(frozen=True, slots=True)
class _Timed:
    """A data set of what `make` draws at each place, with the CPU seconds that it took."""

    make: Callable[[int], Any]
    places: range

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Any, float]:
        begun_s = time.process_time()
        made = self.make(self.places[index])
        return made, time.process_time() - begun_s


def _as_drawn(item: tuple[Any, float]) -> tuple[Any, float]:
    return item


def drawn_ahead(
    make: Callable[[int], Batch], places: range, run: Progress, settings: Settings
) -> Iterator[Batch]:
    """What `make` draws at each place, in order; other processes' time is added to the run's.

    `make` depends on its place alone, so who draws changes nothing.
    """
    loader: DataLoader[Any] = DataLoader(
        _Timed(make, places),
        batch_size=None,
        num_workers=settings.workers,
        collate_fn=_as_drawn,
    )
    for made, cpu_s in loader:
        run.cpu_seconds += cpu_s if settings.workers else 0.0
        yield made


def take(run: Progress, loss: float) -> None:
    """Count a step; FloatingPointError with its number where the loss is no finite number."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"[training] expected a finite loss, got {loss} at step {run.step + 1}; "
            "lower the learning rate"
        )
    run.step += 1
    run.losses.append(loss)


def train_on(
    run: Run,
    settings: Settings,
    batches: Iterable[Batch],
    step: Callable[[Batch], float],
    judged: Callable[[], Mapping[str, Any]],
) -> None:
    """Take the steps still to do; at every `every_steps`-th and the last: a point, a checkpoint.

    `step` returns its loss; `judged` what the learning curve says beside it.
    """
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    clock = time.monotonic(), time.process_time()
    for batch in batches:
        if run.step >= settings.end:
            break
        take(run, step(batch))
        now = time.monotonic(), time.process_time()
        run.seconds += now[0] - clock[0]
        run.cpu_seconds += now[1] - clock[1]
        clock = now
        if run.step % settings.every_steps == 0 or run.step == settings.end:
            add_point(run, settings, judged())
            save(run, settings)


def add_point(run: Progress, settings: Settings, judged: Mapping[str, Any]) -> None:
    """Add a point to the learning curve and print it with the time still to go."""
    losses = run.losses[run.curve[-1]["step"] if run.curve else 0 :]
    point = {
        "step": run.step,
        "examples": run.step * settings.batch,
        "minutes": round(run.seconds / 60, 2),
        "cpu_minutes": round(run.cpu_seconds / 60, 2),
        "loss": round(sum(losses) / len(losses), 5),
        **judged,
    }
    run.curve.append(point)
    left = (settings.steps - run.step) * run.seconds / run.step / 60
    print(" ".join(f"{k}={v}" for k, v in point.items()), f"eta_minutes={left:.1f}", flush=True)


def first_and_last(losses: list[float]) -> tuple[float, float]:
    """The mean losses of the first and the last tenth of the steps; at least one step each."""
    part = max(1, len(losses) // 10)
    return sum(losses[:part]) / part, sum(losses[-part:]) / part
