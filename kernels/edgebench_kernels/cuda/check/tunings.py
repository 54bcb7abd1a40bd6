"""The stage that times the linears' free choices against what production takes.

Its rows are advice: nothing chooses by them until somebody has changed the choice in the code. A
choice whose outputs differ from the default's is not timed. Which choices: `choices.py`. Each is
tried first, in an item of its own, so that one that faults or hangs is known and left out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from edgebench_kernels.cuda.check import precompile
from edgebench_kernels.cuda.check.choices import TASKS, Choice, candidates, default
from edgebench_kernels.cuda.check.contenders import FP16, Weights, fp16, packed
from edgebench_kernels.cuda.check.events import PASSED, Failed, Log, Unavailable
from edgebench_kernels.cuda.check.facts import gpu_facts
from edgebench_kernels.cuda.check.layer import GROUP, SHAPES
from edgebench_kernels.cuda.check.samples import estimate
from edgebench_kernels.cuda.check.tables import table
from edgebench_kernels.cuda.check.timer import Timed, sample_rounds
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.cuda.driver import Gpu
from edgebench_kernels.cuda.geometry import Linear
from edgebench_kernels.cuda.launcher import Launcher, launcher_of
from edgebench_kernels.cuda.linear import GpuInt4
from edgebench_kernels.cuda.products import extra

ROUNDS = 11
LARGEST_DIFFERENCE = 5e-3
KEPT_S = 4.0
DEFAULT = "(default)"
COLUMNS = ("linear", "choice", "us", "IQR", "default / it")


def run(log: Log, request: Request) -> None:
    """An item for each choice, then one for each number of tokens and linear, then their sums."""
    launcher = launcher_of("cuda")
    log.item("compile", functools.partial(_compile, launcher))
    l2_bytes = gpu_facts(Gpu.open()).l2_bytes
    weights = {name: Weights.of(name, launcher, l2_bytes) for name in SHAPES}
    for name, m, choice in _distinct(launcher):
        log.item(trial(choice), functools.partial(_try, weights[name], m, choice))
    raced: dict[int, list[list[Any]]] = {m: [] for m in TASKS}
    for m, name in itertools.product(TASKS, SHAPES):
        race = functools.partial(_race, log, weights[name], m, raced[m], request)
        log.item(f"M={m} {name}", race)
    log.item("sums", lambda: {"tables": [table(COLUMNS, together(raced), "Sums of four")]})


def _place(gpu: Launcher) -> tuple[int, int]:
    return gpu.multiprocessors, gpu.shared_bytes


def _linear(m: int, n: int, k: int, gpu: Launcher) -> Linear:
    return Linear(m=m, n=n, k=k, group=GROUP, is_dependent=gpu.can_overlap)


def _compile(launcher: Launcher) -> dict[str, Any]:
    jobs = [
        (choice.plan.kernel, choice.plan.macros)
        for m in TASKS
        for n, k in SHAPES.values()
        for choice in _all(_linear(m, n, k, launcher), launcher)
    ]
    rows = precompile.compile_all(jobs, launcher.arch)
    return {
        "tables": [precompile.compile_table(rows)],
        "cubins": len(rows),
        "failed": "; ".join(row.error[:200] for row in rows if row.error),
    }


def _all(linear: Linear, gpu: Launcher) -> list[Choice]:
    """The default first."""
    place = _place(gpu)
    return [default(linear, gpu.arch, *place), *candidates(linear, gpu.arch, *place)]


def _distinct(launcher: Launcher) -> list[tuple[str, int, Choice]]:
    """The first linear and number of tokens of each code that is raced."""
    found: dict[str, tuple[str, int, Choice]] = {}
    for m, (name, (n, k)) in itertools.product(TASKS, SHAPES.items()):
        for choice in _all(_linear(m, n, k, launcher), launcher):
            found.setdefault(trial(choice), (name, m, choice))
    return list(found.values())


def trial(choice: Choice) -> str:
    """The item in which a choice's code is tried: its kernel and macros."""
    macros = " ".join(f"{name.removeprefix('EB_')}={value}" for name, value in choice.plan.macros)
    return f"try {choice.plan.kernel} {macros}"


def _try(one: Weights, m: int, choice: Choice) -> dict[str, Any]:
    """Once; its outputs against the default's."""
    gpu, (n, k) = one.launcher, one.shape
    x = torch.randn(m, k, device=gpu.device).half()
    base = _all(_linear(m, n, k, gpu), gpu)[0]
    y, expected = _outputs(gpu, one, x), _outputs(gpu, one, x)
    _multiply(gpu, packed(one)[0], base, x, expected)
    _multiply(gpu, packed(one)[0], choice, x, y)
    difference = _difference(y, expected)
    if not difference <= LARGEST_DIFFERENCE:
        raise Failed(f"its outputs differ by {difference:.3g}, at most {LARGEST_DIFFERENCE:g}")
    return {"difference": difference}


def _difference(y: Tensor, expected: Tensor) -> float:
    return float((y - expected).float().norm() / expected.float().norm())


def _race(
    log: Log, weights: Weights, m: int, raced: list[list[Any]], request: Request
) -> dict[str, Any]:
    """Every choice that was tried well, in turns; the rows go to `raced` too."""
    if request.left_s() < KEPT_S:
        raise Unavailable("too little time was left")
    gpu, (n, k) = weights.launcher, weights.shape
    base, *others = _all(_linear(m, n, k, gpu), gpu)
    tried = [one for one in others if log.status(trial(one)) == PASSED]
    rows = _rows(weights, m, [base, *tried], request)
    raced += rows
    return {"tables": [table(COLUMNS, rows, f"M = {m}")]}


def together(raced: dict[int, list[list[Any]]]) -> list[list[Any]]:
    """Rows of the default's and of the fastest times, summed, where all linears were timed."""
    sums: list[list[Any]] = []
    for m, rows in raced.items():
        if {row[0] for row in rows} != set(SHAPES):
            continue
        ours = [row for row in rows if row[1] != FP16]
        firsts = {row[0]: row for row in reversed(ours)}
        base_us = sum(row[2] for row in ours if DEFAULT in row[1])
        for what, mine in (
            ("default", base_us),
            ("fastest of each", sum(row[2] for row in firsts.values())),
            (FP16, sum(row[2] for row in rows if row[1] == FP16)),
        ):
            sums.append([f"M = {m}", what, mine, None, base_us / mine])
    return sums


def _rows(one: Weights, m: int, choices: list[Choice], request: Request) -> list[list[Any]]:
    gpu, (_, k) = one.launcher, one.shape
    x = torch.randn(m, k, device=gpu.device).half()
    base = choices[0]
    first, expected = _timed(gpu, one, base, x)
    calls, _ = fp16().products(one, x)
    timed = {base.text: first, FP16: _captured(gpu, calls)}
    for choice in choices[1:]:
        if request.left_s() < KEPT_S:
            break
        made, y = _timed(gpu, one, choice, x)
        if _difference(y, expected) <= LARGEST_DIFFERENCE:
            timed[choice.text] = made
    sample_rounds(timed, ROUNDS, lambda: request.left_s() > KEPT_S)
    return shown(one.name, base.text, {text: made.times_ns for text, made in timed.items()})


def shown(name: str, base: str, times_ns: dict[str, list[float]]) -> list[list[Any]]:
    """A row for each, the fastest first."""
    found = {text: estimate(times) for text, times in times_ns.items()}
    known = {text: one for text, one in found.items() if one is not None}
    if base not in known:
        return []
    rows = []
    for text, one in sorted(known.items(), key=lambda item: item[1].median):
        label = f"{text} {DEFAULT}" if text == base else text
        over = known[base].median / one.median
        rows.append([name, label, one.median / 1e3, one.iqr / 1e3, over])
    return rows


def _outputs(gpu: Launcher, one: Weights, x: Tensor) -> Tensor:
    """Room for them, none of which is there yet."""
    size = len(x), one.shape[0]
    return torch.full(size, float("nan"), dtype=torch.float16, device=gpu.device)


def _multiply(gpu: Launcher, weights: GpuInt4, choice: Choice, x: Tensor, y: Tensor) -> None:
    arguments = [x, weights.data, None, None, y, len(x), *weights.shape, *extra(choice.plan, gpu)]
    gpu.run(choice.plan, arguments, overlap=True)


def _timed(gpu: Launcher, one: Weights, choice: Choice, x: Tensor) -> tuple[Timed, Tensor]:
    """The graph over all copies, and what it computes."""
    copies, y = packed(one), _outputs(gpu, one, x)

    calls = [functools.partial(_multiply, gpu, weights, choice, x, y) for weights in copies]
    made = _captured(gpu, calls)
    made.run()
    return made, y.clone()


def _captured(gpu: Launcher, calls: Sequence[Callable[[], object]]) -> Timed:
    """All calls in one graph."""

    def step() -> None:
        for call in calls:
            call()

    return Timed(run=gpu.capture(step), products=len(calls))
