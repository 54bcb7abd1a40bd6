"""Trains networks of a width multiplier, several at once on the same scenes.

    python -m edgebench_workloads.wake.train_scaled --out OUT --widths 0.25,0.5

Each begins with the heaviest channels of the shipped supernet, which saves the hundreds of steps
in which a network from scratch learns nothing (--from-scratch does without). Scenes, augmentation,
loss, optimizer and the drawn resolution are those of `train.py`'s first phase; the shipped
reference teaches from the first step. A call goes on from the last checkpoint and ends after
--seconds, so that it may share a machine. What it took is counted in `training.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.draws import Draws
from edgebench_workloads.wake import subnet
from edgebench_workloads.wake.export import SUPERNET, read_supernet
from edgebench_workloads.wake.genome import RESOLUTIONS
from edgebench_workloads.wake.images import resized, tensors
from edgebench_workloads.wake.scaled import ScaledNet, genome_at, sliced
from edgebench_workloads.wake.scenes import scenes
from edgebench_workloads.wake.train import loss_of

CHECKPOINT, RECORD = "checkpoint.pt", "training.json"
EVERY_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What determines a run, beside the library versions."""

    out: Path
    widths: tuple[float, ...] = (0.25, 0.5)
    seed: int = 2026
    steps: int = 1500
    batch: int = 64
    rate: float = 3e-3
    warmup: int = 100
    threads: int = 1
    from_scratch: bool = False
    seconds: float = 1e9


@dataclass(slots=True, kw_only=True)
class Student:
    """One width's network as it stands."""

    net: ScaledNet
    optimizer: torch.optim.AdamW
    cpu_s: float = 0.0
    """Of its own steps; scenes and the teacher are apart."""


@dataclass(slots=True, kw_only=True)
class Run:
    """The state between two steps."""

    students: dict[float, Student]
    step: int = 0
    shared_cpu_s: float = 0.0
    """Scenes and the teacher, for all widths together."""
    curve: list[dict[str, Any]]


def student_of(width: float, settings: Settings) -> Student:
    """A fresh network; weight decay on kernels alone, as the supernet's training has it."""
    torch.manual_seed(settings.seed)
    if settings.from_scratch:
        net = ScaledNet(width)
    else:
        folder = WORKLOADS["wake"].reference_directory()
        net = sliced(read_supernet(folder / SUPERNET), width)
    net = net.to(memory_format=torch.channels_last)
    groups = [
        {"params": [p for p in net.parameters() if p.dim() == 4], "weight_decay": 0.02},
        {"params": [p for p in net.parameters() if p.dim() != 4], "weight_decay": 0.0},
    ]
    return Student(net=net, optimizer=torch.optim.AdamW(groups, lr=settings.rate))


def rate_at(step: int, settings: Settings) -> float:
    """Warm-up, then a cosine to nothing."""
    warmed = min(1.0, (step + 1) / settings.warmup)
    return settings.rate * warmed * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def train_step(
    student: Student, images: Tensor, answers: Tensor, soft: Tensor, rate: float
) -> float:
    """One AdamW step; the loss in nats an image."""
    for group in student.optimizer.param_groups:
        group["lr"] = rate
    student.optimizer.zero_grad(set_to_none=True)
    loss = loss_of(student.net(images, genome_at(images.shape[-1])), answers, soft)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.net.parameters(), 5.0)
    student.optimizer.step()
    return float(loss.detach())


def begin(settings: Settings) -> Run:
    """A run as its last checkpoint left it, or a fresh one; ValueError for another's widths."""
    students = {width: student_of(width, settings) for width in settings.widths}
    run = Run(students=students, curve=[])
    path = settings.out / CHECKPOINT
    if not path.is_file():
        return run
    state = torch.load(path, weights_only=True)
    if set(state["students"]) != set(settings.widths) or state["steps"] != settings.steps:
        raise ValueError(f"[wake/train_scaled] expected this run's checkpoint in {path}; remove it")
    for width, (net, optimizer, cpu_s) in state["students"].items():
        students[width].net.load_state_dict(net)
        students[width].optimizer.load_state_dict(optimizer)
        students[width].cpu_s = cpu_s
    run.step, run.shared_cpu_s, run.curve = state["step"], state["shared_cpu_s"], state["curve"]
    return run


def keep(run: Run, settings: Settings) -> None:
    """Save everything that going on needs, and what it took so far."""
    state = {
        "students": {
            width: (one.net.state_dict(), one.optimizer.state_dict(), one.cpu_s)
            for width, one in run.students.items()
        },
        "steps": settings.steps, "step": run.step,
        "shared_cpu_s": run.shared_cpu_s, "curve": run.curve,
    }  # fmt: skip
    torch.save(state, settings.out / "checkpoint.new")
    (settings.out / "checkpoint.new").replace(settings.out / CHECKPOINT)
    took = {
        "from_scratch": settings.from_scratch, "seed": settings.seed,
        "batch": settings.batch, "rate": settings.rate,
        "steps": run.step, "of_steps": settings.steps,
        "examples": run.step * settings.batch,
        "cpu_minutes": {str(w): round(one.cpu_s / 60, 2) for w, one in run.students.items()},
        "shared_cpu_minutes": round(run.shared_cpu_s / 60, 2),
        "torch": torch.__version__, "threads": settings.threads,
        "curve": run.curve,
    }  # fmt: skip
    (settings.out / RECORD).write_text(json.dumps(took, indent=1) + "\n", encoding="utf-8")


def train(settings: Settings) -> Run:
    """Train to the last step, or for so many seconds, and leave a checkpoint."""
    began = time.monotonic()
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    run = begin(settings)
    genome, weights = subnet.read(WORKLOADS["wake"].reference_directory())
    teacher = subnet.convolution(weights)
    losses: list[dict[float, float]] = []
    while run.step < settings.steps and time.monotonic() - began < settings.seconds:
        cpu = time.process_time()
        first = run.step * settings.batch
        images, answers = tensors(list(scenes("training", settings.batch, first)))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            soft = subnet.forward(genome, teacher, images).softmax(1)
        draws = Draws(f"edgebench-wake/{settings.seed}/scaled/{run.step}")
        small = resized(images, draws.choose(RESOLUTIONS))
        run.shared_cpu_s += time.process_time() - cpu
        losses.append({})
        for width, student in run.students.items():
            cpu = time.process_time()
            rate = rate_at(run.step, settings)
            losses[-1][width] = train_step(student, small, answers, soft.clone(), rate)
            student.cpu_s += time.process_time() - cpu
        run.step += 1
        if run.step % EVERY_STEPS == 0:
            report(run, losses)
            losses.clear()
    keep(run, settings)
    return run


def report(run: Run, losses: Sequence[dict[float, float]]) -> None:
    """Add a point to the learning curve and print it."""
    means = {str(w): round(sum(one[w] for one in losses) / len(losses), 4) for w in run.students}
    run.curve.append({"step": run.step, "loss": means})
    print(f"step={run.step} loss={means}", flush=True)


def trained(folder: Path) -> dict[float, ScaledNet]:
    """The networks of a finished run by width; ValueError where it is not finished."""
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    if state["step"] < state["steps"]:
        raise ValueError(
            f"[wake/train_scaled] expected {state['steps']} steps in {folder}, "
            f"got {state['step']}; go on training"
        )
    found = {}
    for width, (net, _, _) in state["students"].items():
        found[width] = ScaledNet(width)
        found[width].load_state_dict(net)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Train; the exit code is 0 once all steps are done, and 1 before."""
    usual = Settings(out=Path())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", default=",".join(map(str, usual.widths)))
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--rate", type=float, default=usual.rate)
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--seconds", type=float, default=usual.seconds)
    options = vars(parser.parse_args(arguments))
    options["widths"] = tuple(map(float, options["widths"].split(",")))
    settings = Settings(**options)
    return int(train(settings).step < settings.steps)


if __name__ == "__main__":
    sys.exit(main())
