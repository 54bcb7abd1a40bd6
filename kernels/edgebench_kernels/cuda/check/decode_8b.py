"""The stage that decodes a random model of Llama-3-8B's shape: ours, fp16, torch's INT4.

All three are the same engine with the same weights: one CUDA graph a step, positions on the device.
Torch's product takes bf16, so its engine converts around every linear; what those conversions cost
is measured by themselves and taken away before its speed counts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch

from edgebench_kernels.cuda.check import bars
from edgebench_kernels.cuda.check.decoding import Decoding, decode_rounds, random_prompts
from edgebench_kernels.cuda.check.events import PASSED, Failed, Log, Unavailable
from edgebench_kernels.cuda.check.models import LLAMA_8B
from edgebench_kernels.cuda.check.random_model import FP16, INT4, TORCH, Linears, engine, make
from edgebench_kernels.cuda.check.samples import estimate, ratio
from edgebench_kernels.cuda.check.tables import table
from edgebench_kernels.cuda.check.timer import Timed, sample_rounds
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.cuda.engine import GpuEngine
from edgebench_kernels.cuda.engine_state import Room
from edgebench_kernels.cuda.launcher import Launcher, launcher_of
from edgebench_kernels.engine.config import LlamaConfig

FORMS = (INT4, FP16, TORCH)
ROOM = Room(max_batch=16, max_length=2304)
ROUNDS = 9
STEPS = 48
PROMPT = 128
LONG_PROMPT = 2048
LARGEST_ERROR = {FP16: 0.05, TORCH: 0.2}
"""Of ours' logits against these forms', relative: fp16 and bf16 roundings through all layers."""

KEPT_S = 3.0


@dataclass(slots=True)
class Fleet:
    """The engines of this process."""

    launcher: Launcher
    config: LlamaConfig
    room: Room
    linears: Linears | None = None
    engines: dict[str, GpuEngine] = field(default_factory=dict)


def run(log: Log, request: Request) -> None:
    """Build, compare, then time."""
    run_on(log, request, Fleet(launcher_of("cuda"), LLAMA_8B, ROOM))


def run_on(log: Log, request: Request, fleet: Fleet) -> None:
    """The stage on any launcher and model; a second process builds again what the first had."""
    for form in FORMS:
        name, build = f"build {form}", functools.partial(_build, fleet, form)
        if not log.item(name, build) and log.status(name) == PASSED:
            build()
    log.item("agreement", functools.partial(_agreement, fleet))
    log.item("batch 1", functools.partial(_speed, fleet, request, 1, PROMPT))
    log.item("batch 16", functools.partial(_speed, fleet, request, 16, PROMPT))
    log.item("batch 1, long", functools.partial(_speed, fleet, request, 1, LONG_PROMPT))


def _build(fleet: Fleet, form: str) -> dict[str, Any]:
    linears = make(fleet.launcher, fleet.config, (form,))
    if fleet.linears is None:
        fleet.linears = linears
    fleet.linears.forms.update(linears.forms)
    built = engine(fleet.launcher, fleet.config, fleet.linears, form, fleet.room)
    fleet.engines[form] = built
    return {"weight_bytes": built.weight_bytes, "executes": built.describe()}


def _agreement(fleet: Fleet) -> dict[str, Any]:
    """The same weights must give the same logits, but for rounding."""
    ours = _engine(fleet, INT4)
    length = min(64, fleet.room.max_length // 2)
    prompts = random_prompts(1, length, fleet.config.vocab_size)
    expected = ours.prefill(prompts, [length])
    step = ours.decode(prompts[:, 0])
    data: dict[str, Any] = {}
    wrong = []
    for form, most in LARGEST_ERROR.items():
        if form not in fleet.engines:
            continue
        other = fleet.engines[form]
        errors = (
            _difference(expected, other.prefill(prompts, [length])),
            _difference(step, other.decode(prompts[:, 0])),
        )
        data[f"{form}: prefill"], data[f"{form}: step"] = errors
        if not max(errors) <= most:
            wrong.append(f"{form}: logits differ by {max(errors):.3g}, at most {most}")
    if wrong:
        raise Failed("\n".join(wrong), data)
    return data


def _difference(logits: torch.Tensor, other: torch.Tensor) -> float:
    return float((logits - other).norm() / logits.norm())


def _speed(fleet: Fleet, request: Request, batch: int, length: int) -> dict[str, Any]:
    if not fleet.engines:
        raise Unavailable("no engine was built in this process")
    if batch > fleet.room.max_batch or length + 2 * STEPS + 2 > fleet.room.max_length:
        raise Unavailable(f"the cache has {fleet.room.max_batch} rows of {fleet.room.max_length}")
    prompts = random_prompts(batch, length, fleet.config.vocab_size)
    found = decode_rounds(fleet.engines, prompts, STEPS, ROUNDS, lambda: request.left_s() > KEPT_S)
    converting_s = _conversions_s(fleet, batch) if TORCH in fleet.engines else 0.0
    data = report(fleet, found, batch, length, converting_s)
    if batch == 1 and length == PROMPT:
        data["quantities"] = quantities(found, converting_s)
    return data


def report(
    fleet: Fleet, found: dict[str, Decoding], batch: int, length: int, converting_s: float
) -> dict[str, Any]:
    """A row for each engine. Tokens/s with the host looking at every token, and without."""
    rows = []
    for form, one in found.items():
        looked, ahead, prefill = map(estimate, (one.looked_s, one.ahead_s, one.prefill_s))
        if looked is None or ahead is None or prefill is None:
            continue
        over = ratio(found[FP16].looked_s, one.looked_s) if FP16 in found else None
        read = fleet.engines[form].weight_bytes_at(batch) / ahead.median / 1e9
        rows.append(
            [
                form,
                batch / looked.median,
                batch / ahead.median,
                1e6 * ahead.median,
                1e6 * ahead.iqr,
                ahead.n,
                None if over is None else over.median,
                read,
                1e3 * prefill.median,
            ]
        )
    columns = ("engine", "tokens/s", "tokens/s, no look", "us a step", "IQR", "n", "of fp16",
               "weights GB/s", "prefill ms")  # fmt: skip
    title = f"batch {batch}, prompt of {length}, {STEPS} steps"
    return {
        "conversions_us": 1e6 * converting_s,
        "tables": [table(columns, rows, title)],
    }


def quantities(found: dict[str, Decoding], converting_s: float) -> dict[str, float | None]:
    """Ours with a look at every token; torch's less its conversions."""
    ours = found[INT4].looked_s if INT4 in found else []
    step = estimate(ours)
    torch_s = [one - converting_s for one in found[TORCH].looked_s] if TORCH in found else []
    over = ratio(torch_s, ours)
    return {
        bars.DECODE_RATE: None if step is None else 1 / step.median,
        bars.DECODE_RATIO: None if over is None else over.median,
    }


def _conversions_s(fleet: Fleet, batch: int) -> float:
    """What a step's conversions to bf16 and back take in one graph."""
    assert fleet.linears is not None
    sizes = [linear.shape for linear in fleet.linears.forms[TORCH].values()]
    device = fleet.launcher.device
    halves = {
        width: torch.zeros(batch, width, dtype=torch.float16, device=device)
        for shape in sizes
        for width in shape
    }
    wides = {width: half.bfloat16() for width, half in halves.items()}

    def step() -> None:
        for n, k in sizes:
            halves[k].bfloat16()
            halves[n].copy_(wides[n])

    timed = Timed(run=fleet.launcher.capture(step), products=1)
    sample_rounds({"conversions": timed}, ROUNDS, lambda: True)
    found = estimate(timed.times_ns)
    return 0.0 if found is None else found.median / 1e9


def _engine(fleet: Fleet, form: str) -> GpuEngine:
    if form not in fleet.engines:
        raise Unavailable(f"the engine {form} was not built in this process")
    return fleet.engines[form]
