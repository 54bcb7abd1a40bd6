"""Trains the assistant's reference model on a CPU, from a seed, with checkpoints and resume.

The run is a pure function of (seed, steps, batch, sizes, threads, machine, library versions):
examples come from the endless training stream in order, and the learning rate depends on the step
alone (warm-up, constant, linear decay in the last quarter). Stopping before the decay and resuming
with other --steps equals a run that had them from the start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from edgebench_workloads import training
from edgebench_workloads.assistant.dataset import held_out, scored_pairs, training_pairs
from edgebench_workloads.assistant.llama import (
    collate,
    encode,
    export,
    greedy_answers,
    loss_of,
    reference_config,
    teacher_forced_match,
)
from edgebench_workloads.assistant.quality import exact_match_percent
from edgebench_workloads.assistant.tokenizer import TRAINING_PAIRS, train_tokenizer
from edgebench_workloads.draws import Draws

WINDOW = 64  # batches sorted by length together
WARMUP_STEPS = 200
DECAY_SHARE = 0.25
VALIDATION_COUNT = 500

Example = tuple[list[int], int]
Batch = tuple[Tensor, Tensor]
"""Ids [B, T] and next-token targets [B, T], IGNORED but on the answer's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(training.Settings):
    """What determines a run, beside the library versions."""

    seed: int = 2025
    steps: int = 10_000
    batch: int = 96
    peak_rate: float = 1.5e-3
    every_steps: int = 250
    hidden: int = 256
    layers: int = 6


@dataclass(slots=True, kw_only=True)
class Run(training.Run):
    """The state of a run between two steps."""

    model: LlamaForCausalLM
    optimizer: torch.optim.AdamW

    def parts(self) -> Mapping[str, training.Stateful]:
        """See training.Run."""
        return {"model": self.model, "optimizer": self.optimizer}


def learning_rate(step: int, settings: Settings) -> float:
    """The run's rate at a step."""
    return rate_at(step, steps=settings.steps, peak_rate=settings.peak_rate)


def rate_at(step: int, *, steps: int, peak_rate: float) -> float:
    """Warm-up to the peak, constant, then linear to zero over the last quarter of the steps."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    decay = (steps - step) / (DECAY_SHARE * steps)
    return peak_rate * min(warmup, decay, 1.0)


def window_batches(
    tokenizer: Tokenizer, window: int, *, size: int, seed: int
) -> list[list[Example]]:
    """The WINDOW batches of one stretch of the training stream, in the order of a run."""
    pairs = training_pairs(WINDOW * size, start=window * WINDOW * size)
    examples = sorted((encode(tokenizer, p) for p in pairs), key=lambda e: len(e[0]))
    draws = Draws(f"edgebench-assistant/{seed}/order/{window}")
    order = sorted(range(WINDOW), key=lambda _: draws.below(1 << 32))
    return [examples[place * size : (place + 1) * size] for place in order]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Draws the batches of a window, as they travel between processes: ids in 16 bits."""

    tokenizer: Tokenizer
    batch: int
    seed: int

    def __call__(self, window: int) -> list[tuple[NDArray[np.int16], NDArray[np.int16]]]:
        """Inputs and targets [B, T] of each of the WINDOW batches."""
        drawn = window_batches(self.tokenizer, window, size=self.batch, seed=self.seed)
        return [_compact(batch) for batch in drawn]


def _compact(batch: list[Example]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    inputs, targets = collate(batch)
    return inputs.numpy().astype(np.int16), targets.numpy().astype(np.int16)


def batches(
    tokenizer: Tokenizer, run: training.Progress, settings: training.Settings
) -> Iterator[Batch]:
    """The batches of every step still to do, in order, on the run's device."""
    first, skip = divmod(run.step, WINDOW)
    windows = range(first, math.ceil(settings.end / WINDOW))
    draw = Windows(tokenizer=tokenizer, batch=settings.batch, seed=settings.seed)
    for made in training.drawn_ahead(draw, windows, run, settings):
        for inputs, targets in made[skip:]:
            yield (
                torch.from_numpy(inputs).to(settings.device).long(),
                torch.from_numpy(targets).to(settings.device).long(),
            )
        skip = 0


def start_run(settings: Settings) -> Run:
    """A fresh model and optimizer; weight decay on matrices alone."""
    torch.manual_seed(settings.seed)
    intermediate = 3 * settings.hidden
    model = LlamaForCausalLM(
        reference_config(hidden=settings.hidden, intermediate=intermediate, layers=settings.layers)
    )
    # Twice as fast as scaled_dot_product_attention, whose bfloat16 backward is slow on CPUs.
    model.set_attn_implementation("eager")
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.95), fused=True)
    run = Run(model=model.to(settings.device).train(), optimizer=optimizer)
    if settings.resume:
        training.restore(run, training.read_checkpoint(settings))
    return run


def train_step(run: Run, settings: Settings, inputs: Tensor, targets: Tensor) -> float:
    """One AdamW step in bfloat16 autocast on fp32 weights; the loss in nats per answer token."""
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.step, settings)
    with torch.autocast(torch.device(settings.device).type, torch.bfloat16):
        loss = loss_of(run.model, inputs, targets)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    return float(loss.detach())


def train(settings: Settings) -> Run:
    """Trains to the last step (or stop_after); leaves a checkpoint and the model as OUT/latest."""
    tokenizer = train_tokenizer(training_pairs(TRAINING_PAIRS))
    validation = [encode(tokenizer, p) for p in held_out("validation", VALIDATION_COUNT)]
    run = start_run(settings)

    def judged() -> Mapping[str, Any]:
        export(run.model, tokenizer, settings.out / "latest")
        run.model.eval()
        percent = teacher_forced_match(run.model, validation)
        run.model.train()
        return {"validation_exact_match": round(percent, 2)}

    training.train_on(
        run,
        settings,
        batches(tokenizer, run, settings),
        lambda batch: train_step(run, settings, *batch),
        judged,
    )
    return run


def evaluate(folder: Path, tokenizer: Tokenizer) -> float:
    """Exact match in percent of the fp16 weights, computed in fp32, greedy, on the scored set."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    pairs = scored_pairs()
    answers = greedy_answers(model, tokenizer, [p.command for p in pairs])
    return exact_match_percent(answers, [p.call for p in pairs])


def main() -> None:
    """Trains, then evaluates once on the scored set."""
    disable_progress_bar()
    settings = training.parse_settings(Settings, __doc__)
    run = train(settings)
    if run.step == settings.steps:
        latest = settings.out / "latest"
        score = evaluate(latest, Tokenizer.from_file(str(latest / "tokenizer.json")))
        print(
            f"scored_exact_match={score:.1f} steps={run.step} minutes={run.seconds / 60:.1f}",
            flush=True,
        )
        (settings.out / "result.json").write_text(
            json.dumps({"scored_exact_match": score, "steps": run.step}) + "\n"
        )


if __name__ == "__main__":
    main()
