"""The recovery fine-tune: a changed model learns the reference's answers on the training set.

    loss = mean over the answers' tokens of KL(reference || model)

The scored set is never seen: examples are the training stream's, in order, from a place that the
seed chooses. Weights that are zero stay zero. A run that is interrupted goes on from its last
checkpoint; its result is a function of the request, the threads, the machine and the libraries.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from edgebench.errors import RunFailed
from edgebench.record import Training
from edgebench.transform.finetuning import FinetuneRequest
from edgebench_kernels.engine import LlamaWeights

Example = tuple[list[int], int]
"""Token ids of prompt and answer, and the length of the prompt."""
Examples = Callable[[int, int], Sequence[Example]]
"""(size, start) -> examples start, ..., start + size - 1 of the training stream."""
Progress = Callable[[int, int], None]
Raw = dict[str, Any]
"""A decoded config.json."""

STREAM_STRIDE = 1_000_000  # examples between the starting places of two seeds
WARMUP_SHARE = 0.1
BETAS = (0.9, 0.95)  # the reference's own training
MAX_GRADIENT = 1.0
STEPS_BETWEEN_CHECKPOINTS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Who learns from whom; configs are those of the two directories."""

    student: LlamaWeights
    student_config: Raw
    teacher: LlamaWeights
    teacher_config: Raw
    teacher_sha256: str
    examples: Examples


@dataclass(slots=True)
class _State:
    """A fine-tune between two steps."""

    model: Any
    optimizer: torch.optim.AdamW
    step: int = 0
    cpu_s: float = 0.0
    losses: list[float] | None = None


def finetune(
    lesson: Lesson, request: FinetuneRequest, checkpoint: Path, progress: Progress | None = None
) -> tuple[LlamaWeights, Training]:
    """Run every step, or those that an interrupted run left; removes the checkpoint at the end.

    Raises RunFailed with the step where a loss or a weight is no finite number.
    """
    teacher = build(lesson.teacher, lesson.teacher_config).eval()
    state = _start(lesson, request, checkpoint)
    keep = _masks(state.model)
    losses: list[float] = state.losses or []
    state.model.train()
    while state.step < request.steps:
        begun_s = time.process_time()
        batch = lesson.examples(
            request.batch, request.seed * STREAM_STRIDE + state.step * request.batch
        )
        losses.append(_step(state, teacher, batch, request))
        with torch.no_grad():
            for parameter, mask in keep:
                parameter.mul_(mask)
        state.step += 1
        state.cpu_s += time.process_time() - begun_s
        if state.step % STEPS_BETWEEN_CHECKPOINTS == 0:
            _save(state, losses, checkpoint)
        if progress is not None:
            progress(state.step, request.steps)
    made = _weights(lesson.student, state.model, request)
    tenth = max(1, len(losses) // 10)
    cost = Training(
        teacher_sha256=lesson.teacher_sha256,
        examples=request.examples,
        steps=request.steps,
        cpu_s=state.cpu_s,
        first_loss=max(0.0, sum(losses[:tenth]) / tenth),
        last_loss=max(0.0, sum(losses[-tenth:]) / tenth),
    )
    checkpoint.unlink(missing_ok=True)
    return made, cost


def build(weights: LlamaWeights, raw: Raw) -> Any:
    """The model that transformers makes of a config, with these weights in float32.

    Its config wants heads that divide the hidden size, which its modules do not need: six heads of
    eight are no error here. So the heads are set behind its check.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    dropped = ("architectures", "dtype", "torch_dtype", "transformers_version")
    one_head = {"num_attention_heads": 1, "num_key_value_heads": 1}
    config = LlamaConfig(**({k: v for k, v in raw.items() if k not in dropped} | one_head))
    config.num_attention_heads = weights.config.heads
    config.num_key_value_heads = weights.config.kv_heads
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")
    state = {name: tensor.float() for name, tensor in weights.tensors.items()}
    model.load_state_dict(state, strict=not weights.config.is_tied)
    return model


def learning_rate(step: int, request: FinetuneRequest) -> float:
    """Linear warm-up to the peak, then linear to 0 at the end."""
    warmup = (step + 1) / max(1.0, WARMUP_SHARE * request.steps)
    left = (request.steps - step) / ((1 - WARMUP_SHARE) * request.steps)
    return request.rate * min(1.0, warmup, left)


def _start(lesson: Lesson, request: FinetuneRequest, checkpoint: Path) -> _State:
    model = build(lesson.student, lesson.student_config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=request.rate, betas=BETAS, weight_decay=0.0
    )
    state = _State(model, optimizer)
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        state.step, state.cpu_s, state.losses = kept["step"], kept["cpu_s"], kept["losses"]
    return state


def _save(state: _State, losses: list[float], checkpoint: Path) -> None:
    """Write everything that going on needs, whole or not at all."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    fresh = checkpoint.with_suffix(".new")
    kept = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "cpu_s": state.cpu_s,
        "losses": losses,
    }
    torch.save(kept, fresh)
    fresh.replace(checkpoint)


def _masks(model: Any) -> list[tuple[Tensor, Tensor]]:
    """The decoder's matrices that hold zeros, each with what it is multiplied by after a step."""
    return [
        (parameter, (parameter.detach() != 0).to(parameter.dtype))
        for name, parameter in model.named_parameters()
        if ".layers." in name and parameter.dim() == 2 and bool((parameter == 0).any())
    ]


def _step(state: _State, teacher: Any, batch: Sequence[Example], request: FinetuneRequest) -> float:
    from edgebench_workloads.assistant.llama import answer_logits, collate

    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, request)
    inputs, targets = collate(list(batch))
    with torch.no_grad():
        aim = log_softmax(answer_logits(teacher, inputs, targets), dim=-1)
    came = log_softmax(answer_logits(state.model, inputs, targets), dim=-1)
    loss = kl_div(came, aim, log_target=True, reduction="batchmean")
    learning = state.model.parameters()
    return descend(loss, learning, state.optimizer, state.step, request)


def descend(
    loss: Tensor,
    learning: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    request: FinetuneRequest,
) -> float:
    """One step down the gradient, clipped to MAX_GRADIENT; the loss.

    Raises RunFailed with the step where the loss is no finite number.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise RunFailed(
            f"[finetune] expected a finite loss, got {value} at step {step + 1} of "
            f"{request.steps}; lower the rate (now {request.rate:g})"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learning, MAX_GRADIENT)
    optimizer.step()
    return value


def _weights(student: LlamaWeights, model: Any, request: FinetuneRequest) -> LlamaWeights:
    found = {name: tensor.detach().half() for name, tensor in model.state_dict().items()}
    tensors = {name: found[name] for name in student.tensors}
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise RunFailed(
            f"[finetune] expected finite weights, got others in {broken[0]} after step "
            f"{request.steps}; lower the rate (now {request.rate:g})"
        )
    return LlamaWeights(config=student.config, tensors=tensors)
