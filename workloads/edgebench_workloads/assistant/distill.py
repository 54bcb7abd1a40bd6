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

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torch.utils.data import DataLoader
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from edgebench_workloads.assistant.dataset import held_out
from edgebench_workloads.assistant.llama import (
    IGNORED,
    answer_logits,
    collate,
    encode,
    teacher_forced_match,
)
from edgebench_workloads.assistant.student import TrainingCost, write_student
from edgebench_workloads.assistant.tokenizer import load_tokenizer
from edgebench_workloads.assistant.train import WINDOW, Example, rate_at, window_batches
from edgebench_workloads.weights import sha256_of

TEMPERATURE = 2.0
HARD_SHARE = 0.5
"""Of the loss: the cross-entropy with the right answers."""
VALIDATION_COUNT = 500
REFERENCE = Path(__file__).parent / "model"

Batch = tuple[Tensor, Tensor]
"""Ids [B, T] and next-token targets [B, T], IGNORED but on the answer's tokens."""
Window = tuple[list[tuple[NDArray[np.int16], NDArray[np.int16]]], float]
"""Batches, and the CPU seconds that another process took to draw them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What determines a run, beside the library versions."""

    out: Path
    reference: Path = REFERENCE
    seed: int = 2027
    layers: int = 3
    steps: int = 4_000
    batch: int = 96
    peak_rate: float = 1e-3
    threads: int = 2
    workers: int = 1
    """Processes that draw examples ahead; 0 draws them between the steps."""
    device: str = "cpu"
    every_steps: int = 100
    resume: bool = False
    stop_after: int | None = None


@dataclass(slots=True, kw_only=True)
class Run:
    """The state of a run between two steps."""

    teacher: LlamaForCausalLM
    student: LlamaForCausalLM
    optimizer: torch.optim.AdamW
    step: int
    seconds: float
    cpu_seconds: float
    """Of this process and of those that draw."""
    losses: list[float]
    curve: list[dict[str, Any]]


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
        step=0,
        seconds=0.0,
        cpu_seconds=0.0,
        losses=[],
        curve=[],
    )
    return restore(run, settings) if settings.resume else run


def restore(run: Run, settings: Settings) -> Run:
    """The run as its last checkpoint left it."""
    path = settings.out / "checkpoint.pt"
    if not path.exists():
        raise FileNotFoundError(
            f"[assistant/distill] --resume needs {path}, which is not there; start without it"
        )
    state = torch.load(path, weights_only=True, map_location=settings.device)
    run.student.load_state_dict(state["student"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.losses, run.curve = state["step"], state["losses"], state["curve"]
    run.seconds, run.cpu_seconds = state["seconds"], state["cpu_seconds"]
    return run


def checkpoint(run: Run, settings: Settings) -> None:
    """Save everything that resume needs, and the interim student as OUT/student."""
    state = {
        "student": run.student.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
        "cpu_seconds": run.cpu_seconds,
        "losses": run.losses,
        "curve": run.curve,
    }
    torch.save(state, settings.out / "checkpoint.new")
    (settings.out / "checkpoint.new").replace(settings.out / "checkpoint.pt")
    (settings.out / "learning_curve.json").write_text(json.dumps(run.curve, indent=1) + "\n")
    write_student(run.student, cost_of(run, settings), settings.out / "student")


def cost_of(run: Run, settings: Settings) -> TrainingCost:
    """What the run has taken so far."""
    is_gpu = torch.device(settings.device).type == "cuda"
    tenth = max(1, len(run.losses) // 10)
    return TrainingCost(
        teacher_sha256=sha256_of(settings.reference / "model.safetensors"),
        examples=run.step * settings.batch,
        steps=run.step,
        planned_steps=settings.steps,
        cpu_minutes=run.cpu_seconds / 60,
        minutes=run.seconds / 60,
        device=torch.cuda.get_device_name() if is_gpu else "cpu",
        first_loss=sum(run.losses[:tenth]) / tenth,
        last_loss=sum(run.losses[-tenth:]) / tenth,
        torch_version=torch.__version__,
        seed=settings.seed,
        batch=settings.batch,
        peak_rate=settings.peak_rate,
        temperature=TEMPERATURE,
        hard_share=HARD_SHARE,
        validation_exact_match_percent=run.curve[-1]["validation_exact_match"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The batches of a run as a data set whose items are whole windows of them."""

    tokenizer: Tokenizer
    windows: range
    batch: int
    seed: int

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, place: int) -> Window:
        begun_s = time.process_time()
        drawn = window_batches(self.tokenizer, self.windows[place], size=self.batch, seed=self.seed)
        made = [_compact(batch) for batch in drawn]
        return made, time.process_time() - begun_s


def _compact(batch: list[Example]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """A batch as it travels between processes: no token id needs more than 16 bits."""
    inputs, targets = collate(batch)
    return inputs.numpy().astype(np.int16), targets.numpy().astype(np.int16)


def _as_drawn(window: Window) -> Window:
    return window


def batches(tokenizer: Tokenizer, run: Run, settings: Settings, end: int) -> Iterator[Batch]:
    """The batches of every step still to do, in order; adds what drawing them took."""
    first = run.step // WINDOW
    loader: DataLoader[Window] = DataLoader(
        Windows(  # type: ignore[arg-type]
            tokenizer=tokenizer,
            windows=range(first, math.ceil(end / WINDOW)),
            batch=settings.batch,
            seed=settings.seed,
        ),
        batch_size=None,
        num_workers=settings.workers,
        collate_fn=_as_drawn,
    )
    skip = run.step % WINDOW
    for made, cpu_s in loader:
        run.cpu_seconds += cpu_s if settings.workers else 0.0
        for inputs, targets in made[skip:]:
            yield (
                torch.from_numpy(inputs).to(settings.device).long(),
                torch.from_numpy(targets).to(settings.device).long(),
            )
        skip = 0


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


def train_step(run: Run, settings: Settings, inputs: Tensor, targets: Tensor) -> None:
    """One AdamW step in bfloat16 autocast on fp32 weights.

    Raises FloatingPointError with the step where the loss is no finite number.
    """
    for group in run.optimizer.param_groups:
        group["lr"] = rate_at(run.step, steps=settings.steps, peak_rate=settings.peak_rate)
    with torch.no_grad():
        aim = answer_logits(run.teacher, inputs, targets)
    with torch.autocast(torch.device(settings.device).type, torch.bfloat16):
        came = answer_logits(run.student, inputs, targets)
    loss = loss_of(aim, came, targets[targets != IGNORED])
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(
            f"[assistant/distill] expected a finite loss, got {value} at step {run.step + 1}; "
            f"lower --peak-rate (now {settings.peak_rate:g})"
        )
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.student.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    run.losses.append(value)


def report(run: Run, validation: list[Example], settings: Settings) -> None:
    """Add a point to the learning curve and print it with the time still to go."""
    losses = run.losses[run.curve[-1]["step"] if run.curve else 0 :]
    run.student.eval()
    point = {
        "step": run.step,
        "examples": run.step * settings.batch,
        "minutes": round(run.seconds / 60, 2),
        "loss": round(sum(losses) / len(losses), 5),
        "validation_exact_match": round(teacher_forced_match(run.student, validation), 2),
    }
    run.student.train()
    run.curve.append(point)
    left = (settings.steps - run.step) * run.seconds / run.step / 60
    print(" ".join(f"{k}={v}" for k, v in point.items()), f"eta_minutes={left:.1f}", flush=True)


def distill(settings: Settings) -> Run:
    """Train to the last step (or stop_after); leaves a checkpoint and the student."""
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(settings.reference)
    validation = [encode(tokenizer, p) for p in held_out("validation", VALIDATION_COUNT)]
    run = start_run(settings)
    end = min(settings.steps, settings.stop_after or settings.steps)
    began_s = time.monotonic() - run.seconds
    cpu_began_s = time.process_time()
    for batch in batches(tokenizer, run, settings, end):
        if run.step >= end:
            break
        train_step(run, settings, *batch)
        now_s, cpu_now_s = time.monotonic(), time.process_time()
        run.seconds = now_s - began_s
        run.cpu_seconds += cpu_now_s - cpu_began_s
        cpu_began_s = cpu_now_s
        if run.step % settings.every_steps == 0 or run.step == end:
            report(run, validation, settings)
            checkpoint(run, settings)
    return run


def parse_settings(argv: list[str] | None = None) -> Settings:
    """The command line as settings."""
    usual = Settings(out=Path())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--reference", type=Path, default=usual.reference)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--layers", type=int, default=usual.layers)
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--peak-rate", type=float, default=usual.peak_rate)
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--workers", type=int, default=usual.workers)
    parser.add_argument("--device", default=usual.device, help="cpu or cuda")
    parser.add_argument("--every-steps", type=int, default=usual.every_steps)
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--resume", action="store_true")
    return Settings(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    disable_progress_bar()
    distill(parse_settings())
