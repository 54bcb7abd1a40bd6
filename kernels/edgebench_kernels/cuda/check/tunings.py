"""The stage that times the linears' free choices against what `geometry` reasons out by itself.

Its rows are advice: nothing chooses by them until somebody has changed the choice in the code. A
choice whose outputs differ from the default's is not timed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgebench_kernels.cuda import geometry, large_geometry
from edgebench_kernels.cuda.check import precompile
from edgebench_kernels.cuda.check.contenders import Weights, packed
from edgebench_kernels.cuda.check.events import Log, Unavailable
from edgebench_kernels.cuda.check.facts import gpu_facts
from edgebench_kernels.cuda.check.layer import GROUP, SHAPES
from edgebench_kernels.cuda.check.samples import estimate
from edgebench_kernels.cuda.check.tables import table
from edgebench_kernels.cuda.check.timer import Timed, sample_rounds
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.cuda.driver import Gpu
from edgebench_kernels.cuda.geometry import GemmTuning, GemvTuning, Launch, Linear
from edgebench_kernels.cuda.kernels import KERNELS
from edgebench_kernels.cuda.large_geometry import WgmmaTuning
from edgebench_kernels.cuda.launcher import Launcher, launcher_of
from edgebench_kernels.cuda.products import extra

TASKS = (
    ("w4a16_gemv", 1),
    ("w4a16_gemv", 8),
    ("w4a16_gemv", 16),
    ("w4a16_gemm", 16),
    ("w4a16_gemm", 64),
    ("w4a16_wgmma", 64),
    ("w4a16_wgmma", 256),
    ("w4a16_wgmma", 2048),
)
SPLITS = (1, 2, 4, 8)  # of w4a16_gemm
WGMMA_ROWS = ((1, 8), (2, 8), (1, 16))  # rows of tiles of a warp, warps
ROUNDS = 5
SHOWN = 3
LARGEST_DIFFERENCE = 5e-3
KEPT_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A launch, and the tuning that it was made from."""

    plan: Launch
    tuning: object

    @property
    def text(self) -> str:
        """The tuning's fields."""
        fields = {name: getattr(self.tuning, name) for name in self.tuning.__dataclass_fields__}  # type: ignore[attr-defined]
        return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)


def default(kernel: str, linear: Linear, gpu: Launcher) -> Choice:
    """What production takes."""
    place = _place(gpu)
    if kernel == "w4a16_gemv":
        gemv = geometry.gemv_tuning(linear, *place)
        return Choice(plan=geometry.gemv(linear, gemv), tuning=gemv)
    if kernel == "w4a16_gemm":
        gemm = geometry.gemm_tuning(linear, *place)
        return Choice(plan=geometry.gemm(linear, gemm), tuning=gemm)
    wgmma = large_geometry.wgmma_tuning(linear, *place)
    return Choice(plan=large_geometry.w4a16_wgmma(linear, wgmma), tuning=wgmma)


def candidates(
    kernel: str, linear: Linear, multiprocessors: int, shared_bytes: int
) -> Iterator[Choice]:
    """Choices whose blocks fit, and whose parts of K are long enough."""
    for tuning in _tunings(kernel, linear, multiprocessors):
        plan = _plan(kernel, linear, tuning)
        splits = plan.grid[2]
        is_long = linear.k // geometry.CHUNK_INPUTS // splits >= large_geometry.PART_CHUNKS
        if plan.shared_bytes <= shared_bytes and (splits == 1 or is_long):
            yield Choice(plan=plan, tuning=tuning)


def _tunings(
    kernel: str, linear: Linear, multiprocessors: int
) -> Iterator[GemvTuning | GemmTuning | WgmmaTuning]:
    if kernel == "w4a16_gemv":
        for tiles, warps, row_warps, stages in itertools.product(
            (1, 2, 3, 4, 7), (8, 12, 16), (1, 2, 4), (2, 3, 4)
        ):
            teams, turns = warps // row_warps, -(-linear.n // (16 * tiles * row_warps))
            if (row_warps > 1 and (teams > 15 or warps == 12)) or turns * 2 < multiprocessors:
                continue
            yield GemvTuning(
                tiles=tiles,
                warps=warps,
                row_warps=row_warps,
                stages=stages,
                blocks=multiprocessors,
            )
    elif kernel == "w4a16_gemm":
        sizes = (16,) if linear.m <= 16 else (32, 64)
        for tokens, tiles, stages, splits in itertools.product(sizes, (1, 2, 4), (2, 3, 4), SPLITS):
            yield GemmTuning(tokens=tokens, tiles=tiles, stages=stages, splits=splits)
    else:
        sizes = (64,) if linear.m <= 64 else (64, 128)
        choices = itertools.product(sizes, WGMMA_ROWS, (3, 4, 5, 6), large_geometry.WGMMA_SPLITS)
        for tokens, (tiles, warps), stages, splits in choices:
            yield WgmmaTuning(tokens=tokens, tiles=tiles, warps=warps, stages=stages, splits=splits)


def _plan(kernel: str, linear: Linear, tuning: Any) -> Launch:
    if kernel == "w4a16_gemv":
        return geometry.gemv(linear, tuning)
    if kernel == "w4a16_gemm":
        return geometry.gemm(linear, tuning)
    return large_geometry.w4a16_wgmma(linear, tuning)


def run(log: Log, request: Request) -> None:
    """An item for each kernel and number of tokens."""
    launcher = launcher_of("cuda")
    l2_bytes = gpu_facts(Gpu.open()).l2_bytes
    weights = {name: Weights.of(name, launcher, l2_bytes) for name in SHAPES}
    log.item("compile", functools.partial(_compile, launcher))
    for kernel, m in TASKS:
        if launcher.arch in KERNELS[kernel].architectures:
            log.item(f"{kernel} M={m}", functools.partial(_race, weights, kernel, m, request))


def _place(gpu: Launcher) -> tuple[int, int]:
    return gpu.multiprocessors, gpu.shared_bytes


def _linear(m: int, n: int, k: int, gpu: Launcher) -> Linear:
    return Linear(m=m, n=n, k=k, group=GROUP, is_dependent=gpu.can_overlap)


def _compile(launcher: Launcher) -> dict[str, Any]:
    jobs = [
        (choice.plan.kernel, choice.plan.macros)
        for kernel, m in TASKS
        if launcher.arch in KERNELS[kernel].architectures
        for n, k in SHAPES.values()
        for choice in candidates(kernel, _linear(m, n, k, launcher), *_place(launcher))
    ]
    rows = precompile.compile_all(jobs, launcher.arch)
    return {"tables": [precompile.compile_table(rows)], "cubins": len(rows)}


def _race(weights: dict[str, Weights], kernel: str, m: int, request: Request) -> dict[str, Any]:
    """Every choice at every shape; the default and the best few are shown."""
    rows: list[list[Any]] = []
    for name, one in weights.items():
        if request.left_s() < KEPT_S:
            break
        rows += _race_shape(one, name, kernel, m, request)
    if not rows:
        raise Unavailable("too little time was left")
    columns = ("linear", "choice", "us", "IQR", "over default")
    return {"tables": [table(columns, rows, f"{kernel}, M = {m}")]}


def _race_shape(one: Weights, name: str, kernel: str, m: int, request: Request) -> list[list[Any]]:
    gpu, (n, k) = one.launcher, one.shape
    linear = _linear(m, n, k, gpu)
    x = torch.randn(m, k, device=gpu.device).half()
    base = default(kernel, linear, gpu)
    first, expected = _timed(gpu, one, base, x)
    timed = {base.text: first}
    for choice in candidates(kernel, linear, *_place(gpu)):
        if request.left_s() < KEPT_S:
            break
        try:
            made, y = _timed(gpu, one, choice, x)
        except RuntimeError:  # it does not compile, or does not fit: no choice
            continue
        if float((y - expected).float().norm() / expected.float().norm()) <= LARGEST_DIFFERENCE:
            timed.setdefault(choice.text, made)
    sample_rounds(timed, ROUNDS, lambda: request.left_s() > KEPT_S)
    return shown(name, base.text, {text: made.times_ns for text, made in timed.items()})


def shown(name: str, base: str, times_ns: dict[str, list[float]]) -> list[list[Any]]:
    """The default's row, then those of the fastest."""
    found = {text: estimate(times) for text, times in times_ns.items()}
    medians = {text: one.median for text, one in found.items() if one is not None}
    if base not in medians:
        return []
    fastest = sorted(medians, key=medians.__getitem__)[:SHOWN]
    rows = []
    for text in dict.fromkeys([base, *fastest]):
        one = found[text]
        assert one is not None
        label = f"{text} (default)" if text == base else text
        over = medians[base] / one.median
        rows.append([name, label, one.median / 1e3, one.iqr / 1e3, over])
    return rows


def _timed(gpu: Launcher, one: Weights, choice: Choice, x: Tensor) -> tuple[Timed, Tensor]:
    """The graph over all copies, and what it computes."""
    (n, k), m, plan = one.shape, len(x), choice.plan
    y = torch.full((m, n), float("nan"), dtype=torch.float16, device=gpu.device)
    more = extra(plan, gpu)
    copies = packed(one)

    def step() -> None:
        for weights in copies:
            arguments = [x, weights.data, None, None, y, m, n, k, *more]
            gpu.run(plan, arguments, overlap=True)

    replay: Callable[[], None] = gpu.capture(step)
    replay()
    return Timed(run=replay, products=len(copies)), y.clone()
