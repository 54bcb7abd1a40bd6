"""Trains the supernet by progressive shrinking, from a seed, with checkpoints and resume.

The largest subnet learns alone first and then teaches: kernels become elastic, then depths, then
expansions, each phase on the weights of the one before (Once-for-All, arXiv:1908.09791). Every step
draws a resolution and, past the first phase, subnets whose soft answers follow the teacher's. The
run is a pure function of (seed, schedule, batch, device, threads, machine, library versions);
scenes are drawn ahead by other processes and depend on their number alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebench_workloads import training
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
class Settings(training.Settings):
    """What determines a run, beside the library versions."""

    steps: int = 12_000
    batch: int = 64
    every_steps: int = 200


@dataclass(slots=True, kw_only=True)
class Run(training.Run):
    """The state of a run between two steps."""

    net: Supernet
    optimizer: torch.optim.AdamW
    teacher: Supernet | None = None

    def parts(self) -> Mapping[str, training.Stateful]:
        """See training.Run."""
        own: dict[str, training.Stateful] = {"net": self.net, "optimizer": self.optimizer}
        return own if self.teacher is None else own | {"teacher": self.teacher}


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


def optimizer_of(net: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW with weight decay on kernels alone."""
    decayed = [p for p in net.parameters() if p.dim() == 4]
    plain = [p for p in net.parameters() if p.dim() != 4]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
        lr=rate,
    )


def start_run(settings: Settings) -> Run:
    """A fresh supernet and its optimizer, or as a checkpoint left them."""
    torch.manual_seed(settings.seed)
    net = Supernet().to(settings.device, memory_format=torch.channels_last)
    run = Run(net=net, optimizer=optimizer_of(net, PHASES[0].peak_rate))
    if settings.resume:
        state = training.read_checkpoint(settings)
        run.teacher = copy.deepcopy(net) if "teacher" in state else None
        training.restore(run, state)
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Draws the scenes of a step."""

    batch: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images and answers of a step's scenes."""
        return tensors(list(scenes("training", self.batch, step * self.batch)))


def batches(run: training.Progress, settings: training.Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and answers of every step still to do, in order, on the run's device."""
    places = range(run.step, settings.end)
    draw = Batches(batch=settings.batch)
    for images, answers in training.drawn_ahead(draw, places, run, settings):
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


def judged(run: Run, settings: Settings, validation: tuple[Tensor, Tensor]) -> Mapping[str, Any]:
    """Top-1 on validation scenes of the largest subnet, and of the smallest once it is trained."""
    phase, _, _ = phase_at(run.step - 1, settings.steps)
    subnets = {"largest_top1": LARGEST}
    if phase is not PHASES[0]:
        subnets["smallest_top1"] = SMALLEST
    top1 = {name: round(top1_percent(run.net, g, *validation), 2) for name, g in subnets.items()}
    return {"phase": phase.name, **top1}


def train(settings: Settings) -> Run:
    """Train to the last step (or stop_after) and leave a checkpoint."""
    images, answers = tensors(list(scenes("validation", VALIDATION_COUNT)))
    validation = images.to(settings.device), answers.to(settings.device)
    run = start_run(settings)
    training.train_on(
        run,
        settings,
        batches(run, settings),
        lambda batch: train_step(run, settings, *batch),
        lambda: judged(run, settings, validation),
    )
    return run


if __name__ == "__main__":
    train(training.parse_settings(Settings, __doc__))
