"""Trains the supernet by progressive shrinking, from a seed, with checkpoints and resume.

The largest subnet learns alone first and then teaches: kernels become elastic, then depths, then
expansions, each phase on the weights of the one before (Once-for-All, arXiv:1908.09791). Every step
draws a resolution and, past the first phase, subnets whose soft answers follow the teacher's. The
run is a pure function of (seed, schedule, batch, device, threads, machine, library versions);
scenes are drawn ahead by other processes and depend on their number alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from edgebench_workloads.draws import Draws
from edgebench_workloads.wake.dataset import CALIBRATION_BATCH, CALIBRATION_BATCHES
from edgebench_workloads.wake.genome import (
    DEPTHS,
    EXPANSIONS,
    KERNELS,
    LARGEST,
    RESOLUTIONS,
    SMALLEST,
    Genome,
    make_genome,
)
from edgebench_workloads.wake.images import resized, tensors
from edgebench_workloads.wake.scenes import scenes
from edgebench_workloads.wake.supernet import Supernet, calibrate, release

VALIDATION_COUNT = 1000
WARMUP_STEPS = 200
SMOOTHING = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One stretch of progressive shrinking: which genes may be small, and for how long."""

    name: str
    share: float
    """Of all steps."""
    subnets: int
    """Drawn in every step, their gradients added."""
    peak_rate: float
    kernels: tuple[int, ...] = KERNELS[-1:]
    depths: tuple[int, ...] = DEPTHS[-1:]
    expansions: tuple[int, ...] = EXPANSIONS[-1:]


PHASES = (
    Phase(name="full", share=0.40, subnets=1, peak_rate=3e-3),
    Phase(name="kernel", share=0.15, subnets=2, peak_rate=1e-3, kernels=KERNELS),
    Phase(name="depth", share=0.15, subnets=2, peak_rate=1e-3, kernels=KERNELS, depths=DEPTHS),
    Phase(
        name="expand-first", share=0.08, subnets=2, peak_rate=7e-4,
        kernels=KERNELS, depths=DEPTHS, expansions=EXPANSIONS[-2:],
    ),
    Phase(
        name="expand", share=0.22, subnets=3, peak_rate=1e-3,
        kernels=KERNELS, depths=DEPTHS, expansions=EXPANSIONS,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What determines a run, beside the library versions."""

    out: Path
    seed: int = 2026
    steps: int = 12_000
    batch: int = 64
    threads: int = 2
    workers: int = 1
    """Processes that draw scenes ahead; 0 draws them between the steps."""
    device: str = "cpu"
    every_steps: int = 200
    resume: bool = False
    stop_after: int | None = None


@dataclass(slots=True, kw_only=True)
class Run:
    """The state of a run between two steps."""

    net: Supernet
    optimizer: torch.optim.AdamW
    teacher: Supernet | None
    step: int
    seconds: float
    curve: list[dict[str, Any]]


def phase_at(step: int, steps: int) -> tuple[Phase, int, int]:
    """The phase of a step, the step within it, and how many steps it has."""
    first = 0
    for phase in PHASES:
        count = round(phase.share * steps)
        if step < first + count or phase is PHASES[-1]:
            return phase, step - first, (steps - first if phase is PHASES[-1] else count)
        first += count
    raise AssertionError("the phases cover all steps")


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, then a cosine to nothing, anew in every phase."""
    phase, within, count = phase_at(step, steps)
    warmup = min(1.0, (within + 1) / min(WARMUP_STEPS, max(1, count // 4)))
    return phase.peak_rate * warmup * 0.5 * (1 + math.cos(math.pi * within / count))


def drawn_genomes(phase: Phase, draws: Draws) -> list[Genome]:
    """The subnets of one step; the last phase always trains the smallest too."""
    found = [
        make_genome(
            draws.choose,
            depths=phase.depths,
            kernels=phase.kernels,
            expansions=phase.expansions,
        )
        for _ in range(phase.subnets)
    ]
    if phase.expansions == EXPANSIONS and len(found) > 1:
        found[-1] = make_genome(min, resolutions=[draws.choose(RESOLUTIONS)])
    return found


def start_run(settings: Settings) -> Run:
    """A fresh supernet and optimizer; weight decay on kernels alone."""
    torch.manual_seed(settings.seed)
    net = Supernet().to(settings.device, memory_format=torch.channels_last)
    decayed = [p for p in net.parameters() if p.dim() == 4]
    plain = [p for p in net.parameters() if p.dim() != 4]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
        lr=PHASES[0].peak_rate,
    )
    run = Run(net=net, optimizer=optimizer, teacher=None, step=0, seconds=0.0, curve=[])
    return restore(run, settings) if settings.resume else run


def restore(run: Run, settings: Settings) -> Run:
    """The run as its last checkpoint left it."""
    path = settings.out / "checkpoint.pt"
    if not path.exists():
        raise FileNotFoundError(
            f"[wake/train] --resume needs {path}, which is not there; start without it"
        )
    state = torch.load(path, weights_only=True, map_location=settings.device)
    run.net.load_state_dict(state["net"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.seconds, run.curve = state["step"], state["seconds"], state["curve"]
    if state["teacher"] is not None:
        run.teacher = copy.deepcopy(run.net)
        run.teacher.load_state_dict(state["teacher"])
    return run


def checkpoint(run: Run, settings: Settings) -> None:
    """Save everything that resume needs."""
    state = {
        "net": run.net.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "teacher": None if run.teacher is None else run.teacher.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
        "curve": run.curve,
    }
    torch.save(state, settings.out / "checkpoint.new")
    (settings.out / "checkpoint.new").replace(settings.out / "checkpoint.pt")
    (settings.out / "learning_curve.json").write_text(json.dumps(run.curve, indent=1) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """The scenes of every step, as a data set whose items are whole batches."""

    steps: range
    batch: int

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        first = self.steps[place] * self.batch
        return tensors(list(scenes("training", self.batch, first)))


def batches(run: Run, settings: Settings, end: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and answers of every step still to do, in order."""
    loader = DataLoader(
        Batches(steps=range(run.step, end), batch=settings.batch),
        batch_size=None,
        num_workers=settings.workers,
    )
    for images, answers in loader:
        images = images.to(settings.device, memory_format=torch.channels_last)
        yield images, answers.to(settings.device)


def train_step(run: Run, settings: Settings, images: Tensor, answers: Tensor) -> float:
    """One AdamW step; the loss in nats an image, averaged over its subnets."""
    phase, within, _ = phase_at(run.step, settings.steps)
    if within == 0 and phase is not PHASES[0]:
        enter(phase, run)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.step, settings.steps)
    draws = Draws(f"edgebench-wake/{settings.seed}/step/{run.step}")
    soft = taught(run, images)
    run.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for genome in drawn_genomes(phase, draws):
        small = resized(images, genome.resolution)
        loss = loss_of(run.net(small, genome), answers, soft) / phase.subnets
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(run.net.parameters(), 5.0)
    run.optimizer.step()
    run.step += 1
    return total


def enter(phase: Phase, run: Run) -> None:
    """Begin a phase: the full network becomes the teacher; narrower blocks take sorted channels."""
    if run.teacher is None:
        run.teacher = copy.deepcopy(run.net)
    if phase.expansions != EXPANSIONS[-1:]:
        run.net.sort_channels()
        run.optimizer.state.clear()  # its moments stand in the old order


def taught(run: Run, images: Tensor) -> Tensor | None:
    """The teacher's answers [B, 2] to the images at full size; None before there is one."""
    if run.teacher is None:
        return None
    with torch.no_grad():
        return run.teacher(images, LARGEST).softmax(1)


def loss_of(logits: Tensor, answers: Tensor, soft: Tensor | None) -> Tensor:
    """Cross-entropy with the answers, and in equal parts with the teacher's where there are any."""
    hard = F.cross_entropy(logits, answers, label_smoothing=SMOOTHING)
    return hard if soft is None else 0.5 * hard + 0.5 * F.cross_entropy(logits, soft)


@cache
def calibration_images(resolution: int, *, split: str = "training") -> list[Tensor]:
    """The batches whose statistics a subnet's norms take."""
    found = []
    for number in range(CALIBRATION_BATCHES):
        chosen = list(scenes(split, CALIBRATION_BATCH, number * CALIBRATION_BATCH))
        found.append(resized(tensors(chosen)[0], resolution))
    return found


def top1_percent(net: Supernet, genome: Genome, images: Tensor, answers: Tensor) -> float:
    """Top-1 of one subnet, its norms calibrated."""
    chosen = calibration_images(genome.resolution)
    calibrate(net, genome, [batch.to(images.device) for batch in chosen])
    right = 0
    with torch.inference_mode():
        for part, own in zip(images.split(250), answers.split(250), strict=True):
            right += int((net(resized(part, genome.resolution), genome).argmax(1) == own).sum())
    release(net)
    return 100.0 * right / len(answers)


def report(
    run: Run, losses: list[float], validation: tuple[Tensor, Tensor], settings: Settings
) -> None:
    """Add a point to the learning curve and print it with the time still to go."""
    phase, _, _ = phase_at(run.step - 1, settings.steps)
    point = {
        "step": run.step,
        "phase": phase.name,
        "minutes": round(run.seconds / 60, 2),
        "loss": round(sum(losses) / len(losses), 5),
        "largest_top1": round(top1_percent(run.net, LARGEST, *validation), 2),
    }
    if phase is not PHASES[0]:
        point["smallest_top1"] = round(top1_percent(run.net, SMALLEST, *validation), 2)
    run.curve.append(point)
    left = (settings.steps - run.step) * run.seconds / run.step / 60
    print(" ".join(f"{k}={v}" for k, v in point.items()), f"eta_minutes={left:.1f}", flush=True)


def train(settings: Settings) -> Run:
    """Train to the last step (or stop_after) and leave a checkpoint."""
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    images, answers = tensors(list(scenes("validation", VALIDATION_COUNT)))
    validation = images.to(settings.device), answers.to(settings.device)
    run = start_run(settings)
    end = min(settings.steps, settings.stop_after or settings.steps)
    losses: list[float] = []
    began = time.monotonic() - run.seconds
    for batch in batches(run, settings, end):
        losses.append(train_step(run, settings, *batch))
        run.seconds = time.monotonic() - began
        if run.step % settings.every_steps == 0 or run.step == end:
            report(run, losses, validation, settings)
            losses.clear()
            checkpoint(run, settings)
    return run


def parse_settings(argv: list[str] | None = None) -> Settings:
    """The command line as settings."""
    usual = Settings(out=Path())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--workers", type=int, default=usual.workers)
    parser.add_argument("--device", default=usual.device, help="cpu or cuda")
    parser.add_argument("--every-steps", type=int, default=usual.every_steps)
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--resume", action="store_true")
    return Settings(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    train(parse_settings())
