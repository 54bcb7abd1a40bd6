"""The linears of real models, and awkward ones, launched as in production, against float64.

Of large results only some outputs are compared, spread over all of them; that all were written, and
are the same bits the second time, is always checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import (
    cluster_geometry,
    geometry,
    large_geometry,
    multicast_geometry,
)
from edgebench_kernels.cuda.geometry import FLOAT_OUT, SWIGLU, Linear
from edgebench_kernels.cuda.kernels import KERNELS
from edgebench_kernels.cuda.large_geometry import A8Scales
from edgebench_kernels.cuda.layout import PackedT16x64, kernel_group, pack
from edgebench_kernels.formats import Int4Tensor, dequantize

from .cases import Case, case_of, random_tensor
from .emulation import launch_of
from .linears import NO_STREAM, RAISED, a8_case, planned_x, scratch
from .real_check import Check, Measured, Place, Runner, twice

COMPARED = 192
"""Outputs of a linear that are held against float64."""

HUGE = 1 << 28
"""Weights beyond which the layout is left to smaller matrices: the host takes too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A linear of a model. `is_pair`: gate and up, with SwiGLU behind them."""

    name: str
    n: int
    k: int
    group: int = 128
    is_pair: bool = False
    epilogue: int = 0
    tokens: dict[str, tuple[int, ...]]
    """Kernel -> numbers of tokens; behind an int8 kernel's name: what has a scale of its own."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, K, and the group that kernels are compiled for."""
        return self.n, self.k, kernel_group(self.k, self.group)

    @property
    def pair(self) -> int:
        """Distance of rows that share a lane."""
        return self.n // 2 if self.is_pair else 0

    @property
    def outputs(self) -> int:
        """Of a token."""
        return self.pair or self.n


ALL_TOKENS = {
    "w4a16_gemv": (1, 2, 4, 8, 16),
    "w4a16_gemm": (16, 33, 64, 130),
    "w4a16_cluster": (9, 33, 64),
    "w4a16_wgmma": (64, 100, 256),
    "w4a8_gemm": (1, 16, 130, 256),
    "w4a8_wgmma": (64, 256),
}
WHOLE_CHUNKS = {"w4a16_multicast": (100, 256)}
ROW_TOKENS = {"w4a8_gemm row": (1, 16, 130, 256), "w4a8_wgmma row": (64, 256)}
FEW_TOKENS = {name: (counts[0], counts[-1]) for name, counts in ALL_TOKENS.items()}
LLAMA_8B = (
    Matrix(name="qkv", n=6144, k=4096, tokens={**ALL_TOKENS, **WHOLE_CHUNKS}),
    Matrix(name="o", n=4096, k=4096, tokens=ALL_TOKENS, epilogue=FLOAT_OUT),
    Matrix(
        name="gate_up",
        n=28672,
        k=4096,
        tokens={**ALL_TOKENS, **WHOLE_CHUNKS},
        is_pair=True,
        epilogue=SWIGLU,
    ),
    Matrix(
        name="down",
        n=4096,
        k=14336,
        tokens={**FEW_TOKENS, **WHOLE_CHUNKS, "w4a16_cluster": (9, 32)},
    ),
    Matrix(name="lm_head", n=128256, k=4096, tokens={"w4a16_gemv": (1, 8)}, epilogue=FLOAT_OUT),
)
GROUPS = (
    Matrix(name="groups of 64", n=4096, k=4096, group=64, tokens={**FEW_TOKENS, **WHOLE_CHUNKS}),
    Matrix(name="groups of 32", n=4096, k=4096, group=32, tokens={**FEW_TOKENS, **WHOLE_CHUNKS}),
    Matrix(name="groups of K", n=2048, k=1536, group=1536, tokens={**FEW_TOKENS, **ROW_TOKENS}),
    Matrix(name="groups of K", n=4096, k=14336, group=14336, tokens=ROW_TOKENS),
    Matrix(
        name="tokens' scales",
        n=6144,
        k=4096,
        tokens={"w4a8_gemm token": (130,), "w4a8_wgmma token": (256,)},
    ),
)
SMALL = (
    Matrix(
        name="small",
        n=40,
        k=192,
        group=32,
        tokens={name: (counts[0],) for name, counts in ALL_TOKENS.items()},
    ),
    Matrix(name="small, whole chunks", n=40, k=256, tokens={"w4a16_multicast": (100,)}),
    Matrix(
        name="small, groups of K",
        n=40,
        k=192,
        group=192,
        tokens={name: (counts[0],) for name, counts in ROW_TOKENS.items()},
    ),
)
# Rows that end inside a tile, inputs that end inside a chunk.
AWKWARD = (
    Matrix(name="one row", n=1, k=64, group=64, tokens=FEW_TOKENS),
    Matrix(name="inside tiles", n=1001, k=4032, group=64, tokens=FEW_TOKENS),
    Matrix(name="inside chunks", n=328, k=320, group=32, tokens=FEW_TOKENS),
    Matrix(name="pairs", n=2 * 1016, k=704, group=64, tokens=FEW_TOKENS, is_pair=True,
           epilogue=SWIGLU | FLOAT_OUT),
)  # fmt: skip


def checks(place: Place, matrices: Sequence[Matrix]) -> list[Check]:
    """Those that this architecture has kernels for."""
    return [check for matrix in matrices for check in _matrix_checks(matrix, place)]


def _matrix_checks(matrix: Matrix, place: Place) -> list[Check]:
    """The layout first, then each kernel; the matrix is made once, when it is first needed."""
    made = functools.cache(lambda: _Made.of(matrix))
    label = f"{matrix.name} {matrix.n}x{matrix.k} g{matrix.group}"
    is_huge = matrix.n * matrix.k > HUGE
    result = [] if is_huge else _layout_checks(label, matrix, made)
    for name, counts in matrix.tokens.items():
        if place.arch in KERNELS[name.split()[0]].architectures:
            plans = {m: _plan(name, m, matrix, place) for m in counts}
            run = functools.partial(_check_linears, plans, made, _scales(name))
            result.append(Check(name=f"{name} {label}", plans=tuple(plans.values()), run=run))
    return result


def _scales(name: str) -> A8Scales:
    """What an int8 kernel's name in `Matrix.tokens` says."""
    return A8Scales[(name.split()[1:] or ["group"])[0].upper()]


def _layout_checks(label: str, matrix: Matrix, made: Callable[[], _Made]) -> list[Check]:
    return [
        Check(
            name=f"w4_repack {label}",
            plans=(geometry.repack(*matrix.sizes),),
            run=lambda runner: _check_repack(runner, made()),
        ),
        Check(
            name=f"w4_dequant {label}",
            plans=(geometry.dequant(*matrix.sizes),),
            run=lambda runner: _check_dequant(runner, made()),
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A matrix with random weights, packed; `part` has its `rows`, those of compared outputs."""

    matrix: Matrix
    tensor: Int4Tensor
    packed: PackedT16x64
    outputs: NDArray[np.int64]
    rows: NDArray[np.int64]
    part: Int4Tensor

    @staticmethod
    def of(matrix: Matrix) -> _Made:
        tensor = random_tensor(matrix.n, matrix.k, matrix.group, matrix.n + matrix.k)
        outputs, pair = _spread(matrix.outputs), matrix.pair
        rows = np.concatenate([outputs, outputs + pair]) if pair else outputs
        part = {name: getattr(tensor, name)[rows] for name in ("qweight", "scale", "zero")}
        return _Made(
            matrix=matrix,
            tensor=tensor,
            packed=pack(tensor, pair=pair),
            outputs=outputs,
            rows=rows,
            part=Int4Tensor(group=tensor.group, **part),
        )


def _spread(count: int) -> NDArray[np.int64]:
    """COMPARED of so many outputs: the first and the last whole tiles, and others between them."""
    between = np.linspace(0, count - 1, COMPARED - 64).astype(np.int64)
    edges = np.concatenate([np.arange(32), np.arange(count - 32, count)])
    chosen = np.concatenate([between, edges])
    return np.unique(chosen[(chosen >= 0) & (chosen < count)])


def _check_repack(runner: Runner, made: _Made) -> Measured:
    tensor, (n, k) = made.tensor, made.tensor.shape
    plan = geometry.repack(n, k, made.packed.group)
    arrays = (tensor.qweight, tensor.scale, tensor.zero, np.full_like(made.packed.data, 0xA5))
    sizes = (n, k, int(tensor.group), made.matrix.pair)
    [results] = runner.run([launch_of(plan, [*arrays, *map(np.int32, sizes)])])
    assert np.array_equal(results[-1], made.packed.data), "not the packer's bytes"
    return {"bytes": made.packed.data.nbytes}


def _check_dequant(runner: Runner, made: _Made) -> Measured:
    (n, k), stride = made.tensor.shape, -(-made.tensor.shape[1] // 8) * 8
    plan = geometry.dequant(n, k, made.packed.group)
    y = np.full((n, stride), np.nan, np.float16)
    sizes = (n, k, made.matrix.pair, stride)
    [results] = runner.run([launch_of(plan, [made.packed.data, y, *map(np.int32, sizes)])])
    y = results[-1]
    assert np.isfinite(y).all(), "weights are not written"
    assert np.array_equal(y[made.rows, :k], dequantize(made.part).astype(np.float16))
    return {"weights": n * k}


def _check_linears(
    plans: dict[int, geometry.Launch],
    made_once: Callable[[], _Made],
    scales: A8Scales,
    runner: Runner,
) -> Measured:
    """Every number of tokens: how far the compared outputs are from the truth, over the bound."""
    made, measured = made_once(), {}
    matrix = made.matrix
    dtype = np.float32 if matrix.epilogue & FLOAT_OUT else np.float16
    for m, plan in plans.items():
        case, activations, inputs = _case(plan, m, made, scales)
        y = np.full((m, matrix.outputs), np.nan, dtype)
        sizes = [np.int32(m), np.int32(matrix.n), np.int32(inputs)]
        extra = NO_STREAM if plan.kernel == "w4a16_gemv" else scratch(plan)
        x, *others = activations
        passed = (planned_x(plan, x, x), *others)
        arguments = [*passed, made.packed.data, None, None, y, *sizes, *extra]
        arrays = twice(runner, plan, arguments)
        y = arrays[-3 if plan.counters else -1]
        assert np.isfinite(y).all(), f"M={m}: outputs are not written, or not finite"
        assert not plan.counters or not arrays[-1].any(), f"M={m}: counters must be left zero"
        compared = y[:, made.outputs]
        case.check(compared)
        error = np.abs(compared.astype(np.float64) - case.y)
        measured[f"M={m}: error / bound"] = float((error / case.bound).max())
    return measured


def _case(
    plan: geometry.Launch, m: int, made: _Made, scales: A8Scales
) -> tuple[Case, tuple[NDArray, ...], int]:
    """The compared outputs, the activations of a launch, and inputs of a row."""
    matrix, seed = made.matrix, 1000 * m + made.matrix.k
    if plan.kernel.startswith("w4a8"):
        x = np.random.default_rng(seed).standard_normal((m, matrix.k)).astype(np.float16)
        of = a8_case(m, made.part, matrix.epilogue, x=x, scales=scales)
        return of.case, of.activations, of.k
    is_rounded = plan.kernel in ("w4a16_wgmma", "w4a16_multicast") or (
        plan.kernel == "w4a16_gemm" and dict(plan.macros)["EB_TOKENS"] >= 64
    )
    raised = RAISED if plan.kernel in ("w4a16_gemv", "w4a16_cluster") else 0
    case = case_of(
        m, made.part, matrix.epilogue, seed=seed, is_scale_rounded=is_rounded, raised=raised
    )
    return case, (case.x,), case.x.shape[1]


def _plan(name: str, m: int, matrix: Matrix, place: Place) -> geometry.Launch:
    """How production launches it."""
    kernel, scales = name.split()[0], _scales(name)
    n, k, group = matrix.sizes
    gpu = (place.multiprocessors, place.shared_bytes)
    is_a8 = kernel.startswith("w4a8")
    inputs = k if is_a8 else -(-k // 8) * 8
    linear = Linear(m=m, n=n, k=inputs, group=group, epilogue=matrix.epilogue)
    if kernel == "w4a16_gemv":
        return geometry.gemv(linear, geometry.gemv_tuning(linear, *gpu))
    if kernel == "w4a16_gemm":
        return geometry.gemm(linear, geometry.gemm_tuning(linear, *gpu))
    if kernel == "w4a16_cluster":
        tuning = cluster_geometry.cluster_tuning(linear, *gpu)
        assert tuning is not None
        return cluster_geometry.w4a16_cluster(linear, tuning)
    if kernel == "w4a16_multicast":
        multicast = multicast_geometry.multicast_tuning(linear, place.shared_bytes)
        return multicast_geometry.w4a16_multicast(linear, multicast)
    if kernel == "w4a8_gemm":
        return large_geometry.w4a8_gemm(linear, large_geometry.a8_tuning(linear, *gpu), scales)
    if kernel == "w4a8_wgmma":
        wgmma = large_geometry.a8_wgmma_tuning(linear, *gpu)
        return large_geometry.w4a8_wgmma(linear, wgmma, scales)
    return large_geometry.w4a16_wgmma(linear, large_geometry.wgmma_tuning(linear, *gpu))
