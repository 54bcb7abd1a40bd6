"""Distills the assistant's reference into a student of fewer layers, with checkpoints and resume.

    loss = HARD_SHARE * CE(answer, student)
         + (1 - HARD_SHARE) * T^2 * KL(softmax(reference / T) || softmax(student / T))

over the answers' tokens (Hinton et al. 2015, arXiv:1503.02531, section 2). The student begins as
the reference with evenly chosen layers left (DistilBERT, arXiv:1910.01108, section 3). The run is a
pure function of (reference, seed, steps, batch, layers, device, threads, machine, library
versions); the schedule is `train`'s, so stopping before the decay and resuming with other --steps
equals a run that had them from the start. Batches are drawn ahead by other processes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from edgebench_workloads import training
from edgebench_workloads.assistant.dataset import held_out
from edgebench_workloads.assistant.llama import (
    IGNORED,
    answer_logits,
    encode,
    teacher_forced_match,
)
from edgebench_workloads.assistant.student import TrainingCost, write_student
from edgebench_workloads.assistant.tokenizer import load_tokenizer
from edgebench_workloads.assistant.train import batches, rate_at
from edgebench_workloads.weights import sha256_of

TEMPERATURE = 2.0
HARD_SHARE = 0.5
"""Of the loss: the cross-entropy with the right answers."""
VALIDATION_COUNT = 500
REFERENCE = Path(__file__).parent / "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(training.Settings):
    """What determines a run, beside the library versions."""

    reference: Path = REFERENCE
    seed: int = 2027
    layers: int = 3
    steps: int = 4_000
    batch: int = 96
    peak_rate: float = 1e-3
    every_steps: int = 100


@dataclass(slots=True, kw_only=True)
class Run(training.Run):
    """The state of a run between two steps."""

    teacher: LlamaForCausalLM
    student: LlamaForCausalLM
    optimizer: torch.optim.AdamW

    def parts(self) -> Mapping[str, training.Stateful]:
        """See training.Run; the teacher is the reference, which does not change."""
        return {"student": self.student, "optimizer": self.optimizer}


def chosen_layers(of: int, count: int) -> list[int]:
    """`count` of the reference's `of` layers, evenly spread from the first to the last."""
    if not 2 <= count < of:
        raise ValueError(
            f"[assistant/distill] expected --layers to be 2..{of - 1}, fewer than the "
            f"reference's {of}, got {count}"
        )
    return [round(place * (of - 1) / (count - 1)) for place in range(count)]


def make_student(teacher: LlamaForCausalLM, count: int) -> LlamaForCausalLM:
    """The reference in float32 with `count` of its layers."""
    kept = chosen_layers(teacher.config.num_hidden_layers, count)
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = count
    student = LlamaForCausalLM(config).float()
    state = {
        name: tensor for name, tensor in teacher.state_dict().items() if ".layers." not in name
    }
    for place, layer in enumerate(kept):
        own = teacher.model.layers[layer].state_dict()
        state |= {f"model.layers.{place}.{name}": tensor for name, tensor in own.items()}
    student.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return student


def start_run(settings: Settings) -> Run:
    """The reference in bfloat16, a student cut out of it, its optimizer; matrices alone decay."""
    torch.manual_seed(settings.seed)
    teacher = LlamaForCausalLM.from_pretrained(settings.reference, dtype=torch.float32)
    student = make_student(teacher, settings.layers).to(settings.device).train()
    teacher = teacher.to(settings.device, torch.bfloat16).eval()
    if settings.device == "cpu":  # whose scaled_dot_product_attention is slow backwards
        teacher.set_attn_implementation("eager")
        student.set_attn_implementation("eager")
    groups = [
        {"params": [p for p in student.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in student.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    run = Run(
        teacher=teacher,
        student=student,
        optimizer=torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.95), fused=True),
    )
    if settings.resume:
        training.restore(run, training.read_checkpoint(settings))
    return run


def cost_of(run: Run, settings: Settings, validation_percent: float) -> TrainingCost:
    """What the run has taken so far, and how good it is on validation."""
    is_gpu = torch.device(settings.device).type == "cuda"
    first_loss, last_loss = training.first_and_last(run.losses)
    return TrainingCost(
        teacher_sha256=sha256_of(settings.reference / "model.safetensors"),
        examples=run.step * settings.batch,
        steps=run.step,
        planned_steps=settings.steps,
        cpu_minutes=run.cpu_seconds / 60,
        minutes=run.seconds / 60,
        device=torch.cuda.get_device_name() if is_gpu else "cpu",
        first_loss=first_loss,
        last_loss=last_loss,
        torch_version=torch.__version__,
        seed=settings.seed,
        batch=settings.batch,
        peak_rate=settings.peak_rate,
        temperature=TEMPERATURE,
        hard_share=HARD_SHARE,
        validation_exact_match_percent=round(validation_percent, 2),
    )


def loss_of(aim: Tensor, came: Tensor, answers: Tensor) -> Tensor:
    """The loss in nats per answer token; logits [N, V] of reference and student, answers [N]."""
    soft = kl_div(
        log_softmax(came / TEMPERATURE, dim=-1),
        log_softmax(aim / TEMPERATURE, dim=-1),
        log_target=True,
        reduction="batchmean",
    )
    hard = cross_entropy(came, answers)
    return HARD_SHARE * hard + (1 - HARD_SHARE) * TEMPERATURE**2 * soft


def train_step(run: Run, settings: Settings, inputs: Tensor, targets: Tensor) -> float:
    """One AdamW step in bfloat16 autocast on fp32 weights; the loss in nats per answer token."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate_at(run.step, steps=settings.steps, peak_rate=settings.peak_rate)
    with torch.no_grad():
        aim = answer_logits(run.teacher, inputs, targets)
    with torch.autocast(torch.device(settings.device).type, torch.bfloat16):
        came = answer_logits(run.student, inputs, targets)
    loss = loss_of(aim, came, targets[targets != IGNORED])
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.student.parameters(), 1.0)
    run.optimizer.step()
    return float(loss.detach())


def distill(settings: Settings) -> Run:
    """Train to the last step (or stop_after); leaves a checkpoint and OUT/student."""
    tokenizer = load_tokenizer(settings.reference)
    validation = [encode(tokenizer, p) for p in held_out("validation", VALIDATION_COUNT)]
    run = start_run(settings)

    def judged() -> Mapping[str, Any]:
        run.student.eval()
        percent = teacher_forced_match(run.student, validation)
        run.student.train()
        write_student(run.student, cost_of(run, settings, percent), settings.out / "student")
        return {"validation_exact_match": round(percent, 2)}

    training.train_on(
        run,
        settings,
        batches(tokenizer, run, settings),
        lambda batch: train_step(run, settings, *batch),
        judged,
    )
    return run


if __name__ == "__main__":
    disable_progress_bar()
    distill(training.parse_settings(Settings, __doc__))
