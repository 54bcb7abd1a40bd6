"""The recovery fine-tune of a network of images: it learns the reference's answers.

    loss = mean over the images of KL(reference || network)

Images are the training stream's, in order, from a place that the seed chooses; none is scored.
Norms are folded, so to recalibrate them means: in front of the first step every channel takes the
mean and the spread that it has in the reference, layer by layer. Weights that are zero stay zero.
Behind `share` the codebooks are what learns (Deep Compression, section 3.3): a value's gradient is
the sum of its weights', and who shares with whom stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from edgebench.images.network import Network, rounded
from edgebench.images.pruned import convolved
from edgebench.record import Training
from edgebench.transform.finetune import (
    BETAS,
    STEPS_BETWEEN_CHECKPOINTS,
    STREAM_STRIDE,
    descend,
    learning_rate,
)
from edgebench.transform.finetuning import FinetuneRequest
from edgebench_workloads.wake.genome import Layer
from edgebench_workloads.wake.subnet import convolution, forward

Images = Callable[[int, int], Tensor]
"""(size, start) -> images start, ..., start + size - 1 of the training stream, [B, 1, R, R]."""
Progress = Callable[[int, int], None]
Statistics = Mapping[str, tuple[Tensor, Tensor]]
"""Layer -> mean and standard deviation of every output channel."""

CALIBRATING = 128  # training images whose statistics count
LEAST_SPREAD = 1e-4  # of a channel that is worth scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Who learns from whom, on what."""

    student: Network
    teacher: Network
    teacher_sha256: str
    images: Images
    is_shared: bool
    """Whether the student's weights are codebooks' values."""


class _Parameters:
    """The tensors that learn, and the network that they make."""

    def __init__(self, network: Network, *, is_shared: bool) -> None:
        self._numbers: dict[str, Tensor] = {}
        self._masks: dict[str, Tensor] = {}
        self.learning: dict[str, Tensor] = {}
        for name, tensor in network.tensors.items():
            own = tensor
            if name.endswith(".weight"):
                self._masks[name] = (tensor != 0).float()
                if is_shared:
                    own, self._numbers[name] = torch.unique(tensor, return_inverse=True)
            self.learning[name] = own.clone().requires_grad_()

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the network, which gradients go through."""
        found = {}
        for name, own in self.learning.items():
            whole = own[self._numbers[name]] if name in self._numbers else own
            found[name] = whole * self._masks[name] if name in self._masks else whole
        return found


@dataclass(slots=True)
class _State:
    parameters: _Parameters
    optimizer: torch.optim.AdamW
    step: int
    cpu_s: float
    losses: list[float]


def finetune(
    lesson: Lesson, request: FinetuneRequest, checkpoint: Path, progress: Progress | None = None
) -> tuple[Network, Training]:
    """Run every step, or those that an interrupted run left; removes the checkpoint at the end.

    Raises RunFailed with the step where a loss or a weight is no finite number.
    """
    state = _start(lesson, request, checkpoint)
    while state.step < request.steps:
        begun_s = time.process_time()
        start = request.seed * STREAM_STRIDE + state.step * request.batch
        state.losses.append(_step(state, lesson, lesson.images(request.batch, start), request))
        state.step += 1
        state.cpu_s += time.process_time() - begun_s
        if state.step % STEPS_BETWEEN_CHECKPOINTS == 0:
            _save(state, checkpoint)
        if progress is not None:
            progress(state.step, request.steps)
    where = f"finetune, {request.steps} steps at rate {request.rate:g}"
    made = rounded(lesson.student.genome, state.parameters.tensors(), where)
    tenth = max(1, len(state.losses) // 10)
    cost = Training(
        teacher_sha256=lesson.teacher_sha256,
        examples=request.examples,
        steps=request.steps,
        cpu_s=state.cpu_s,
        first_loss=max(0.0, sum(state.losses[:tenth]) / tenth),
        last_loss=max(0.0, sum(state.losses[-tenth:]) / tenth),
    )
    checkpoint.unlink(missing_ok=True)
    return made, cost


def _start(lesson: Lesson, request: FinetuneRequest, checkpoint: Path) -> _State:
    kept = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    begun_s = time.process_time()
    student = lesson.student
    if kept is None and not lesson.is_shared:
        images = lesson.images(CALIBRATING, request.seed * STREAM_STRIDE)
        student = recalibrated(student, lesson.teacher, images)
    parameters = _Parameters(student, is_shared=lesson.is_shared)
    optimizer = torch.optim.AdamW(
        parameters.learning.values(), lr=request.rate, betas=BETAS, weight_decay=0.0
    )
    state = _State(parameters, optimizer, 0, time.process_time() - begun_s, [])
    if kept is not None:
        with torch.no_grad():
            for name, own in parameters.learning.items():
                own.copy_(kept["parameters"][name])
        optimizer.load_state_dict(kept["optimizer"])
        state.step, state.cpu_s, state.losses = kept["step"], kept["cpu_s"], kept["losses"]
    return state


def _save(state: _State, checkpoint: Path) -> None:
    """Write everything that going on needs, whole or not at all."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    fresh = checkpoint.with_suffix(".new")
    kept = {
        "parameters": {name: own.detach() for name, own in state.parameters.learning.items()},
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "cpu_s": state.cpu_s,
        "losses": state.losses,
    }
    torch.save(kept, fresh)
    fresh.replace(checkpoint)


def _step(state: _State, lesson: Lesson, images: Tensor, request: FinetuneRequest) -> float:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, request)
    teacher, student = lesson.teacher, lesson.student
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        aim = log_softmax(forward(teacher.genome, convolution(teacher.tensors), images), dim=-1)
    tensors = state.parameters.tensors()
    came = log_softmax(forward(student.genome, convolution(tensors), images), dim=-1)
    loss = kl_div(came, aim, log_target=True, reduction="batchmean")
    learning = state.parameters.learning.values()
    return descend(loss, learning, state.optimizer, state.step, request)


def recalibrated(student: Network, teacher: Network, images: Tensor) -> Network:
    """Give every channel of layers that are as wide as the teacher's its mean and spread there."""
    statistics: dict[str, tuple[Tensor, Tensor]] = {}

    def measure(layer: Layer, x: Tensor) -> Tensor:
        names = f"{layer.name}.weight", f"{layer.name}.bias"
        found = convolved(layer, x, *(teacher.tensors[name] for name in names))
        statistics[layer.name] = _statistics(found)
        return found

    made = dict(student.tensors)

    def fit(layer: Layer, x: Tensor) -> Tensor:
        weight, bias = made[f"{layer.name}.weight"], made[f"{layer.name}.bias"]
        found = convolved(layer, x, weight, bias)
        mean, spread = statistics[layer.name]
        if len(mean) != len(bias):
            return found
        own_mean, own_spread = _statistics(found)
        is_live = own_spread > LEAST_SPREAD
        ratio = torch.where(is_live, spread / own_spread.clamp(min=LEAST_SPREAD), torch.ones(1))
        made[f"{layer.name}.weight"] = weight * ratio[:, None, None, None]
        made[f"{layer.name}.bias"] = mean + ratio * (bias - own_mean)
        return (found - own_mean[:, None, None]) * ratio[:, None, None] + mean[:, None, None]

    with torch.no_grad():
        forward(teacher.genome, measure, images)
        forward(student.genome, fit, images)
    return Network(genome=student.genome, tensors=made)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, variance.sqrt()
