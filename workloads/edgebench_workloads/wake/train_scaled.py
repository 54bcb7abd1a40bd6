"""Trains networks of a width multiplier, several at once on the same scenes.

    python -m edgebench_workloads.wake.train_scaled --out OUT --widths 0.25,0.5 [--resume]

Each begins with the heaviest channels of the shipped supernet, which saves the hundreds of steps
in which a network from scratch learns nothing (--from-scratch does without). Scenes, augmentation,
loss, optimizer and the drawn resolution are those of `train.py`'s first phase; the shipped
reference teaches from the first step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgebench_workloads import training
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.draws import Draws
from edgebench_workloads.wake import subnet
from edgebench_workloads.wake.export import SUPERNET, read_supernet
from edgebench_workloads.wake.genome import RESOLUTIONS, Genome
from edgebench_workloads.wake.images import resized
from edgebench_workloads.wake.scaled import ScaledNet, genome_at, sliced
from edgebench_workloads.wake.train import batches, loss_of, optimizer_of

PART = "width-"
"""Begins the name of a width's part of a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(training.Settings):
    """What determines a run, beside the library versions."""

    widths: str = field(default="0.25,0.5", metadata={"help": "width multipliers, by commas"})
    steps: int = 1500
    batch: int = 64
    threads: int = 1
    workers: int = 0
    every_steps: int = 50
    rate: float = 3e-3
    warmup: int = 100
    from_scratch: bool = False


@dataclass(slots=True, kw_only=True)
class Student:
    """One width's network as it stands; a part of a checkpoint."""

    net: ScaledNet
    optimizer: torch.optim.AdamW
    steps: int
    """Of the whole run."""
    losses: list[float] = field(default_factory=list)
    """Since the last point of the learning curve."""

    def state_dict(self) -> dict[str, Any]:
        """See training.Stateful."""
        own = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        return own | {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """See training.Stateful; ValueError for another schedule's."""
        if state_dict["steps"] != self.steps:
            raise ValueError(
                f"[wake/train_scaled] expected a checkpoint of {self.steps} steps, got one of "
                f"{state_dict['steps']}; give it those steps, or another --out"
            )
        self.net.load_state_dict(state_dict["net"])
        self.optimizer.load_state_dict(state_dict["optimizer"])


@dataclass(slots=True, kw_only=True)
class Run(training.Run):
    """The state between two steps."""

    students: dict[float, Student]

    def parts(self) -> Mapping[str, training.Stateful]:
        """See training.Run."""
        return {_part(width): student for width, student in self.students.items()}


def _part(width: float) -> str:
    return f"{PART}{width}"


def student_of(width: float, settings: Settings) -> Student:
    """A fresh network."""
    torch.manual_seed(settings.seed)
    if settings.from_scratch:
        net = ScaledNet(width)
    else:
        folder = WORKLOADS["wake"].reference_directory()
        net = sliced(read_supernet(folder / SUPERNET), width)
    net = net.to(settings.device, memory_format=torch.channels_last)
    return Student(net=net, optimizer=optimizer_of(net, settings.rate), steps=settings.steps)


def start_run(settings: Settings) -> Run:
    """A fresh run, or the one that a checkpoint left; ValueError for another's widths."""
    widths = [float(width) for width in settings.widths.split(",")]
    run = Run(students={width: student_of(width, settings) for width in widths})
    if settings.resume:
        state = training.read_checkpoint(settings)
        if missing := run.parts().keys() - state.keys():
            raise ValueError(
                f"[wake/train_scaled] expected {', '.join(sorted(missing))} in the checkpoint of "
                f"{settings.out}, got none; give its widths, or another --out"
            )
        training.restore(run, state)
    return run


def rate_at(step: int, settings: Settings) -> float:
    """Warm-up, then a cosine to nothing."""
    warmed = min(1.0, (step + 1) / settings.warmup)
    return settings.rate * warmed * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """The shipped reference."""

    genome: Genome
    weights: Mapping[str, Tensor]

    @classmethod
    def shipped(cls, device: str) -> Teacher:
        """The reference's own subnet."""
        genome, weights = subnet.read(WORKLOADS["wake"].reference_directory())
        return cls(genome=genome, weights={name: one.to(device) for name, one in weights.items()})

    def __call__(self, images: Tensor) -> Tensor:
        """Its answers [B, 2] to f32 images [B, 1, R, R]."""
        with torch.no_grad():
            multiply = subnet.convolution(self.weights)
            return subnet.forward(self.genome, multiply, images).softmax(1)


def train_step(
    run: Run, settings: Settings, teacher: Teacher, images: Tensor, answers: Tensor
) -> float:
    """One AdamW step of every width; the mean loss in nats an image."""
    soft = teacher(images)
    draws = Draws(f"edgebench-wake/{settings.seed}/scaled/{run.step}")
    small = resized(images, draws.choose(RESOLUTIONS))
    total = 0.0
    for student in run.students.values():
        for group in student.optimizer.param_groups:
            group["lr"] = rate_at(run.step, settings)
        student.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(student.net(small, genome_at(small.shape[-1])), answers, soft)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.net.parameters(), 5.0)
        student.optimizer.step()
        student.losses.append(float(loss.detach()))
        total += student.losses[-1]
    return total / len(run.students)


def judged(run: Run) -> Mapping[str, Any]:
    """Every width's mean loss since the last point."""
    found = {}
    for width, student in run.students.items():
        found[_part(width)] = round(sum(student.losses) / len(student.losses), 4)
        student.losses.clear()
    return found


def train(settings: Settings) -> Run:
    """Train to the last step (or stop_after) and leave a checkpoint."""
    run, teacher = start_run(settings), Teacher.shipped(settings.device)
    training.train_on(
        run,
        settings,
        batches(run, settings),
        lambda batch: train_step(run, settings, teacher, *batch),
        lambda: judged(run),
    )
    return run


def trained(folder: Path) -> dict[float, ScaledNet]:
    """The networks of a finished run by width; ValueError where it is not finished."""
    state = torch.load(folder / training.CHECKPOINT, weights_only=True, map_location="cpu")
    found = {}
    for name, own in state.items():
        if not name.startswith(PART):
            continue
        if state["step"] < own["steps"]:
            raise ValueError(
                f"[wake/train_scaled] expected {own['steps']} steps in {folder}, got "
                f"{state['step']}; go on training with --resume"
            )
        width = float(name.removeprefix(PART))
        found[width] = ScaledNet(width)
        found[width].load_state_dict(own["net"])
    return found


def training_cost(folder: Path) -> Mapping[str, Any]:
    """The last point of a run's learning curve: steps, examples, CPU minutes, losses."""
    points: list[dict[str, Any]] = json.loads((folder / training.CURVE).read_text())
    return points[-1]


if __name__ == "__main__":
    train(training.parse_settings(Settings, __doc__))
