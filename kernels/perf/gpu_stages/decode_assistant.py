"""The stage that lets assistant@1b answer: fp16 and INT4 on the GPU, accuracy first, then speed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from edgebench_kernels.cuda.check import bars
from edgebench_kernels.cuda.check.decoding import Decoding, decode_rounds
from edgebench_kernels.cuda.check.events import PASSED, Failed, Log, Unavailable
from edgebench_kernels.cuda.check.samples import estimate, ratio
from edgebench_kernels.cuda.check.tables import table
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.cuda.engine import GpuEngine
from edgebench_kernels.cuda.engine_build import build_fp16_on, build_int4_on, pack_int4_on
from edgebench_kernels.cuda.engine_state import Room
from edgebench_kernels.cuda.launcher import launcher_of
from edgebench_kernels.engine.arithmetic import Int4Path, PathChoice
from edgebench_kernels.engine.weights import weights_from_tensors
from gpu_stages import assistant_task, widened
from gpu_stages.assistant_task import Questions

BATCH = 64
STEPS = 32
ROUNDS = 9
FP16 = "fp16"
PATHS: tuple[Int4Path, ...] = ("w4a16", "w4a8")
GATED = "w4a16"
KEPT_S = 3.0


@dataclass(slots=True)
class Assistant:
    """The questions, and the engines of this process."""

    questions: Questions
    max_new_tokens: int
    standard: float
    engines: dict[str, GpuEngine] = field(default_factory=dict)
    right: dict[str, int] = field(default_factory=dict)


def run(log: Log, request: Request) -> None:
    """Build, answer all questions with each engine, then time single answers."""
    folder = request.work / assistant_task.FOLDER
    variant = assistant_task.variant()
    made: list[Assistant] = []

    def build() -> dict[str, Any]:
        if not widened.is_done(folder):
            raise Unavailable("the widened model was not finished: see the stage prepare")
        made.append(
            Assistant(
                questions=Questions(),
                max_new_tokens=variant.max_new_tokens,
                standard=variant.standard,
            )
        )
        return _build(made[0], folder)

    if not log.item("build", build) and log.status("build") == PASSED:
        build()
    if not made or not made[0].engines:
        return
    assistant = made[0]
    for name in (FP16, *PATHS):
        if name in assistant.engines:
            log.item(f"answers of {name}", functools.partial(_answer, assistant, name))
    log.item("one at a time", functools.partial(_speed, assistant, request))


def _build(assistant: Assistant, folder: Any) -> dict[str, Any]:
    begin = time.monotonic()
    config = widened.config(folder)
    tensors = {name: torch.from_numpy(one) for name, one in widened.tensors(folder).items()}
    weights = weights_from_tensors(config, tensors)
    launcher = launcher_of("cuda")
    longest = max(map(len, assistant.questions.prompts))
    length = longest + max(assistant.max_new_tokens, 2 * STEPS + 2)
    room = Room(max_batch=BATCH, max_length=length)
    assistant.engines[FP16] = build_fp16_on(launcher, weights, room)
    packed = pack_int4_on(launcher, weights, widened.quantized(folder))
    problems = {}
    for path in PATHS:
        try:
            choice = PathChoice.of(path)
            assistant.engines[path] = build_int4_on(launcher, weights, packed, choice, room)
        except ValueError as err:
            problems[path] = str(err)
    return {
        "took_s": time.monotonic() - begin,
        **{f"{name} executes": one.describe() for name, one in assistant.engines.items()},
        **{f"{name} executes": f"not: {text}" for name, text in problems.items()},
    }


def _answer(assistant: Assistant, name: str) -> dict[str, Any]:
    """All questions once, in batches of similar length; the gate is on INT4's answers."""
    questions, engine = assistant.questions, assistant.engines[name]
    order = sorted(range(len(questions.prompts)), key=lambda i: len(questions.prompts[i]))
    answers: list[list[int]] = [[] for _ in order]
    batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    engine.warm_up([len(questions.prompts[i]) for i in batch] for batch in batches)
    begin = time.perf_counter()
    for batch in batches:
        prompts = [questions.prompts[i] for i in batch]
        made = engine.generate_greedy(prompts, assistant.max_new_tokens, questions.eos_id)
        for i, answer in zip(batch, made, strict=True):
            answers[i] = answer
    took_s = time.perf_counter() - begin
    assistant.right[name] = questions.right(answers)
    data: dict[str, Any] = {
        "right": assistant.right[name],
        "of": len(answers),
        "samples_per_s": len(answers) / took_s,
        "tokens_per_s": sum(map(len, answers)) / took_s,
        "batch": BATCH,
    }
    if name == FP16 or not assistant.right.get(FP16):
        return data
    share = 100 * assistant.right[name] / assistant.right[FP16]
    data["percent_of_fp16"] = share
    if name == GATED:
        data["quantities"] = {bars.ACCURACY: share}
    if share < 100 * assistant.standard:
        raise Failed(f"{share:.2f} % of fp16's answers, {100 * assistant.standard:g} % asked", data)
    return data


def _speed(assistant: Assistant, request: Request) -> dict[str, Any]:
    """A prompt of the median length, alone."""
    prompts = sorted(assistant.questions.prompts, key=len)
    one = torch.tensor([prompts[len(prompts) // 2]])
    goes_on: Callable[[], bool] = lambda: request.left_s() > KEPT_S  # noqa: E731
    found = decode_rounds(assistant.engines, one, STEPS, ROUNDS, goes_on)
    return {"tables": [_speed_table(found, one.shape[1])]}


def _speed_table(found: dict[str, Decoding], length: int) -> dict[str, Any]:
    rows = []
    for name, one in found.items():
        looked, ahead, prefill = map(estimate, (one.looked_s, one.ahead_s, one.prefill_s))
        if looked is None or ahead is None or prefill is None:
            continue
        over = ratio(found[FP16].looked_s, one.looked_s) if FP16 in found else None
        rows.append(
            [
                name,
                1 / looked.median,
                1 / ahead.median,
                1e6 * looked.iqr,
                looked.n,
                None if over is None else over.median,
                1e3 * prefill.median,
            ]
        )
    columns = ("engine", "tokens/s", "tokens/s, no look", "IQR us", "n", "of fp16", "prefill ms")
    return table(columns, rows, f"batch 1, prompt of {length}, {STEPS} steps")
