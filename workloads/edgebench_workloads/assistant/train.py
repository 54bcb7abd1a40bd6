"""Trains the assistant's reference model on a CPU, from a seed, with checkpoints and resume.

The run is a pure function of (seed, steps, batch, sizes, threads, machine, library versions):
examples come from the endless training stream in order, and the learning rate depends on the step
alone (warm-up, constant, linear decay in the last quarter). Stopping before the decay and resuming
with other --steps equals a run that had them from the start.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What determines a run, beside the library versions."""

    out: Path
    seed: int = 2025
    steps: int = 10_000
    batch: int = 96
    peak_rate: float = 1.5e-3
    threads: int = 2
    every_steps: int = 250
    hidden: int = 256
    layers: int = 6
    resume: bool = False
    stop_after: int | None = (
        None  # for tests and staged runs: stop (with a checkpoint) at this step
    )


@dataclass(slots=True, kw_only=True)
class Run:
    """The state of a run between two steps."""

    model: LlamaForCausalLM
    optimizer: torch.optim.AdamW
    step: int
    seconds: float
    curve: list[dict[str, Any]]


def learning_rate(step: int, settings: Settings) -> float:
    """The run's rate at a step."""
    return rate_at(step, steps=settings.steps, peak_rate=settings.peak_rate)


def rate_at(step: int, *, steps: int, peak_rate: float) -> float:
    """Warm-up to the peak, constant, then linear to zero over the last quarter of the steps."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    decay = (steps - step) / (DECAY_SHARE * steps)
    return peak_rate * min(warmup, decay, 1.0)


def batches(tokenizer: Tokenizer, settings: Settings, start: int) -> Iterator[list[Example]]:
    """Batches start, start + 1, ...: each window is sorted by length, its batches shuffled."""
    window = start // WINDOW
    skip = start % WINDOW
    while True:
        yield from window_batches(tokenizer, window, size=settings.batch, seed=settings.seed)[skip:]
        window, skip = window + 1, 0


def window_batches(
    tokenizer: Tokenizer, window: int, *, size: int, seed: int
) -> list[list[Example]]:
    """The WINDOW batches of one stretch of the training stream, in the order of a run."""
    pairs = training_pairs(WINDOW * size, start=window * WINDOW * size)
    examples = sorted((encode(tokenizer, p) for p in pairs), key=lambda e: len(e[0]))
    draws = Draws(f"edgebench-assistant/{seed}/order/{window}")
    order = sorted(range(WINDOW), key=lambda _: draws.below(1 << 32))
    return [examples[place * size : (place + 1) * size] for place in order]


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
    run = Run(model=model, optimizer=optimizer, step=0, seconds=0.0, curve=[])
    return restore(run, settings) if settings.resume else run


def restore(run: Run, settings: Settings) -> Run:
    """The run as its last checkpoint left it."""
    path = settings.out / "checkpoint.pt"
    if not path.exists():
        raise FileNotFoundError(
            f"[assistant/train] --resume needs {path}, which is not there; start without it"
        )
    state = torch.load(path, weights_only=True)
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.seconds, run.curve = state["step"], state["seconds"], state["curve"]
    return run


def checkpoint(run: Run, tokenizer: Tokenizer, settings: Settings) -> None:
    """Saves everything that resume needs, and the interim model as OUT/latest."""
    state = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
        "curve": run.curve,
    }
    torch.save(state, settings.out / "checkpoint.new")
    (settings.out / "checkpoint.new").replace(settings.out / "checkpoint.pt")
    (settings.out / "learning_curve.json").write_text(json.dumps(run.curve, indent=1) + "\n")
    export(run.model, tokenizer, settings.out / "latest")


def train_step(run: Run, batch: list[Example], settings: Settings) -> torch.Tensor:
    """One AdamW step in bfloat16 autocast on fp32 weights; the loss in nats per answer token."""
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.step, settings)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(run.model, *collate(batch))
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    return loss.detach()


def report(run: Run, losses: list[float], validation: list[Example], settings: Settings) -> None:
    """Adds a point to the learning curve and prints it with the time still to go."""
    run.model.eval()
    point = {
        "step": run.step,
        "examples": run.step * settings.batch,
        "minutes": round(run.seconds / 60, 2),
        "loss": round(sum(losses) / len(losses), 5),
        "validation_exact_match": round(teacher_forced_match(run.model, validation), 2),
    }
    run.model.train()
    run.curve.append(point)
    left = (settings.steps - run.step) * run.seconds / run.step / 60
    print(" ".join(f"{k}={v}" for k, v in point.items()), f"eta_minutes={left:.1f}", flush=True)


def train(settings: Settings) -> Run:
    """Trains to the last step (or stop_after) and leaves a checkpoint."""
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(training_pairs(TRAINING_PAIRS))
    validation = [encode(tokenizer, p) for p in held_out("validation", VALIDATION_COUNT)]
    run = start_run(settings)
    run.model.train()
    end = min(settings.steps, settings.stop_after or settings.steps)
    losses: list[float] = []
    began = time.monotonic() - run.seconds
    for batch in batches(tokenizer, settings, run.step):
        if run.step >= end:
            break
        losses.append(float(train_step(run, batch, settings)))
        run.seconds = time.monotonic() - began
        if run.step % settings.every_steps == 0 or run.step == end:
            report(run, losses, validation, settings)
            losses.clear()
            checkpoint(run, tokenizer, settings)
    return run


def evaluate(folder: Path, tokenizer: Tokenizer) -> float:
    """Exact match in percent of the fp16 weights, computed in fp32, greedy, on the scored set."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    pairs = scored_pairs()
    answers = greedy_answers(model, tokenizer, [p.command for p in pairs])
    return exact_match_percent(answers, [p.call for p in pairs])


def parse_settings(argv: list[str] | None = None) -> Settings:
    """The command line as settings."""
    usual = Settings(out=Path())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--peak-rate", type=float, default=usual.peak_rate)
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--every-steps", type=int, default=usual.every_steps)
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--resume", action="store_true")
    return Settings(**vars(parser.parse_args(argv)))


def main() -> None:
    """Trains, then evaluates once on the scored set."""
    disable_progress_bar()
    settings = parse_settings()
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
