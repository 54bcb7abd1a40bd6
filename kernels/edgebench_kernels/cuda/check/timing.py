"""The stage that times the linears of a layer: everybody checked, then all in turns.

Of each round the order is new and random; cuBLAS, the copy and the bf16 product are in it. Ratios
and shares are medians of each round's own.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from edgebench_kernels.cuda import paths
from edgebench_kernels.cuda.check import bars, ceilings, facts
from edgebench_kernels.cuda.check.contenders import (
    FP16,
    NO_OVERLAP,
    Cell,
    Contender,
    Weights,
    cell,
    fp16,
    ours,
    ours_by_row,
)
from edgebench_kernels.cuda.check.events import PASSED, Failed, Log, Skipped, Unavailable
from edgebench_kernels.cuda.check.facts import gpu_facts
from edgebench_kernels.cuda.check.layer import BY_ROW, SHAPES, TOKENS
from edgebench_kernels.cuda.check.peers import humming, torch_int4
from edgebench_kernels.cuda.check.samples import Estimate, estimate, ratio, sums
from edgebench_kernels.cuda.check.tables import table
from edgebench_kernels.cuda.check.timer import Timed, sample_rounds
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.cuda.driver import Gpu
from edgebench_kernels.cuda.launcher import launcher_of
from edgebench_kernels.cuda.products import PRODUCTS

ROUNDS = 21
FEWEST_ROUNDS = 7
COPY, BF16 = "copy", "bf16"
PATHS = ("w4a16", "w4a8")
KEPT_S = 6.0
"""Of the stage's time, for what comes behind the rounds."""


@dataclass(slots=True)
class Layer:
    """All cells of the table."""

    arch: str
    weights: dict[str, Weights]
    cells: list[Cell] = field(default_factory=list)

    def of(self, contender: str, m: int) -> list[Cell]:
        """A contender's cells at so many tokens, in the order of SHAPES."""
        found = [one for one in self.cells if (one.contender, one.m) == (contender, m)]
        return sorted(found, key=lambda one: list(SHAPES).index(one.shape))

    def names(self) -> list[str]:
        """Contenders that have cells."""
        return list(dict.fromkeys(one.contender for one in self.cells))


def all_contenders() -> list[Contender]:
    """In the table's order; the fp16 that ratios are made with is among the first."""
    mine = [ours(kernel) for kernel in PRODUCTS]
    by_row = [ours_by_row(kernel) for kernel in BY_ROW]
    alone = ours(paths.GEMV, name=NO_OVERLAP, overlap=False)
    return [fp16(), *mine, *by_row, alone, fp16("cublaslt"), torch_int4(), humming()]


def run(log: Log, request: Request) -> None:
    """An item for each contender's check, then one for the table."""
    gc.freeze()  # captures collect garbage: let them pass over what was imported
    launcher = launcher_of("cuda")
    l2_bytes = gpu_facts(Gpu.open()).l2_bytes
    weights = {name: Weights.of(name, launcher, l2_bytes) for name in SHAPES}
    layer = Layer(launcher.arch, weights)
    for contender in all_contenders():
        check = functools.partial(_build, layer, contender, request)
        name = f"check {contender.name}"
        if not log.item(name, check) and log.status(name) == PASSED:
            _build(layer, contender, request)
    log.item("table", functools.partial(_time, log, layer, launcher.device, request))


def _build(layer: Layer, contender: Contender, request: Request) -> dict[str, Any]:
    """A contender's cells; nothing of it is timed where one of them is wrong."""
    cells, problems = [], []
    for m in TOKENS:
        if not contender.is_applicable(layer.arch, m):
            continue
        for weights in layer.weights.values():
            if request.left_s() < KEPT_S + 15:
                raise Unavailable("too little time was left to build it")
            try:
                cells.append(cell(contender, weights, m))
            except AssertionError as err:
                problems.append(str(err))
    if problems:
        raise Failed("\n".join(problems))
    if not cells:
        raise Skipped(f"not for {layer.arch}")
    layer.cells += cells
    return {"cells": len(cells), "largest_error": max(one.error for one in cells)}


def _time(log: Log, layer: Layer, device: torch.device, request: Request) -> dict[str, Any]:
    timed = {f"{one.contender} {one.shape} {one.m}": one.timed for one in layer.cells}
    timed[COPY], timed[BF16] = ceilings.copy(device), ceilings.product(device)
    before = _state()

    def after_round(done: int) -> None:
        if done % FEWEST_ROUNDS == 0:
            log.data(rounds=done, **report(layer, timed[COPY], timed[BF16]))

    done = sample_rounds(timed, ROUNDS, lambda: request.left_s() > KEPT_S, after_round)
    data = {
        "rounds": done,
        "state_before": before,
        "state_after": _state(),
        **report(layer, timed[COPY], timed[BF16]),
    }
    if done < FEWEST_ROUNDS:
        raise Failed(f"{done} rounds in the time there was, at least {FEWEST_ROUNDS} count", data)
    return data


def report(layer: Layer, copy: Timed, bf16: Timed) -> dict[str, Any]:
    """Tables and quantities of the rounds so far."""
    return {
        "tables": [
            _sum_table(layer, copy, bf16),
            *(_cell_table(layer, m, copy, bf16) for m in TOKENS),
        ],
        "quantities": quantities(layer, copy),
    }


def quantities(layer: Layer, copy: Timed) -> dict[str, float | None]:
    """What bars ask for; paths are timed as the kernel that the table of paths names."""
    found: dict[str, float | None] = {}
    for path in PATHS:
        for m in TOKENS:
            kernel = paths.kernel_for(path, layer.arch, m)
            found[bars.ratio_name(path, m)] = _median(speedup(layer, kernel, m))
    kernel = paths.kernel_for("w4a16", layer.arch, 1)
    share = _share(layer.of(kernel, 1), copy, "moved_bytes")
    found[bars.COPY_SHARE] = _median(share)
    return found


def speedup(layer: Layer, contender: str, m: int) -> Estimate | None:
    """torch's fp16 time of the four linears over the contender's."""
    ours, base = layer.of(contender, m), layer.of(FP16, m)
    if len(ours) != len(SHAPES) or len(base) != len(SHAPES):
        return None
    return ratio(_sums(base), _sums(ours))


def _sum_table(layer: Layer, copy: Timed, bf16: Timed) -> dict[str, Any]:
    chosen = {paths.kernel_for(path, layer.arch, m) + f"@{m}" for path in PATHS for m in TOKENS}
    rows = []
    for m in TOKENS:
        for name in layer.names():
            cells = layer.of(name, m)
            if len(cells) != len(SHAPES):
                continue
            total, over = estimate(_sums(cells)), speedup(layer, name, m)
            if total is None:
                continue
            rows.append(
                [
                    m,
                    name,
                    "yes" if f"{name}@{m}" in chosen else "",
                    total.median / 1e3,
                    total.iqr / 1e3,
                    None if over is None else over.median,
                    None if over is None else over.iqr,
                    _median(_share(cells, copy, "moved_bytes")),
                    _median(_share(cells, bf16, "operations")),
                ]
            )
    columns = ("M", "who", "our choice", "us", "IQR", "of fp16", "IQR", "% copy", "% bf16")
    return table(columns, rows, "Sum of the four linears; 'of fp16': times torch's fp16")


def _cell_table(layer: Layer, m: int, copy: Timed, bf16: Timed) -> dict[str, Any]:
    rows = []
    for shape in SHAPES:
        for one in layer.cells:
            if (one.shape, one.m) != (shape, m):
                continue
            found = estimate(one.timed.times_ns)
            if found is not None:
                rows.append([shape, one.contender, *_figures(one, found, copy, bf16)])
    columns = ("linear", "who", "us", "IQR", "n", "GB/s", "% copy", "TFLOP/s", "% bf16", "error")
    return table(columns, rows, f"M = {m}")


def _figures(one: Cell, found: Estimate, copy: Timed, bf16: Timed) -> list[Any]:
    return [
        found.median / 1e3,
        found.iqr / 1e3,
        found.n,
        one.timed.moved_bytes / found.median,
        _median(_share([one], copy, "moved_bytes")),
        one.timed.operations / found.median / 1e3,
        _median(_share([one], bf16, "operations")),
        one.error,
    ]


def _share(cells: Sequence[Cell], ceiling: Timed, amount: str) -> Estimate | None:
    """Percent of a ceiling that cells together reach, against the ceiling of the same round."""
    if not cells:
        return None
    done = sum(getattr(one.timed, amount) for one in cells)
    whole = getattr(ceiling, amount)
    seconds = _sums(cells)
    return ratio([100 * done * t / whole for t in ceiling.times_ns], seconds)


def _sums(cells: Iterable[Cell]) -> list[float]:
    return sums([one.timed.times_ns for one in cells])


def _median(found: Estimate | None) -> float | None:
    return None if found is None else found.median


def _state() -> dict[str, Any] | None:
    try:
        return facts.state()
    except Unavailable:
        return None
