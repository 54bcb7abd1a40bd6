"""Linears for the emulated kernels: random INT4 weights, tokens, the float64 truth, its bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU
from edgebench_kernels.cuda.layout import PackedT16x64, pack
from edgebench_kernels.formats import Int4Tensor, dequantize

HALF_ULP = 2.0**-11  # of fp16, relative
HALF_TINY = 2.0**-24  # the smallest fp16


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A linear with its answer. x fp16 [M, K padded to 8]; y float64 [M, outputs]."""

    x: NDArray[np.float16]
    weights: PackedT16x64
    bias: NDArray[np.float16] | None
    residual: NDArray[np.float16] | None
    y: NDArray[np.float64]
    bound: NDArray[np.float64]
    epilogue: int

    def output(self) -> NDArray:
        """Where the kernel writes: NaN, so that what it leaves out shows."""
        dtype = np.float32 if self.epilogue & FLOAT_OUT else np.float16
        return np.full(self.y.shape, np.nan, dtype=dtype)

    def is_wrong(self, y: NDArray) -> NDArray[np.bool_]:
        """Where y is further from the truth than rounding explains, or no number."""
        return ~(np.abs(y.astype(np.float64) - self.y) <= self.bound)

    def check(self, y: NDArray) -> None:
        """Raise AssertionError where y is further from the truth than rounding explains."""
        wrong = self.is_wrong(y)
        assert not wrong.any(), (
            f"{wrong.sum()} of {wrong.size} outputs, first at {np.argwhere(wrong)[0].tolist()}: "
            f"{y[wrong][0]} for {self.y[wrong][0]}, allowed {self.bound[wrong][0]:.3g}"
        )


def random_tensor(n: int, k: int, group: int, seed: int) -> Int4Tensor:
    """Random codes, scales of several magnitudes and zero points."""
    rng = np.random.default_rng(seed)
    return Int4Tensor(
        qweight=rng.integers(0, 256, (n, k // 2), dtype=np.uint8),
        scale=rng.lognormal(-4, 1, (n, k // group)).astype(np.float16),
        zero=rng.integers(0, 16, (n, k // group), dtype=np.uint8),
        group=group,
    )


def case_of(
    m: int,
    tensor: Int4Tensor,
    epilogue: int = 0,
    *,
    seed: int = 0,
    x: NDArray[np.float16] | None = None,
    is_scale_rounded: bool = False,
    raised: int = 0,
    linear: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Case:
    """The case of M tokens; with SwiGLU, the tensor's first half of rows is gate, the other up.

    `is_scale_rounded`: the kernel rounds scale * (code - zero) to fp16 before it multiplies.
    `raised`: it sums products of codes that are larger by so much at most, which come off again.
    `linear`: x w^T and its bound, where the kernel multiplies something else than x.
    """
    n, k = tensor.shape
    rng = np.random.default_rng(seed)
    if x is None:
        x = rng.standard_normal((m, k)).astype(np.float16)
    outputs = n // 2 if epilogue & SWIGLU else n
    bias = rng.standard_normal(n).astype(np.float16) if epilogue & BIAS else None
    residual = rng.standard_normal((m, outputs)).astype(np.float16) if epilogue & RESIDUAL else None
    weight = dequantize(tensor).astype(np.float64)
    y, bound = linear or _linear(x.astype(np.float64), weight, is_scale_rounded)
    if raised:
        sums = np.abs(x.astype(np.float64)).reshape(m, k // tensor.group, tensor.group).sum(axis=2)
        scale = np.abs(tensor.scale.astype(np.float64))
        bound = bound + (tensor.group + 64) * 2.0**-23 * (raised + 15) * (sums @ scale.T)
    if bias is not None:
        y = y + bias
        bound = bound + 2.0**-23 * np.abs(y)
    if epilogue & SWIGLU:
        y, bound = _swiglu(y, bound)
    if residual is not None:
        y = y + residual
        bound = bound + 2.0**-23 * np.abs(y)
    if not epilogue & FLOAT_OUT:
        bound = bound + HALF_ULP * np.abs(y) + HALF_TINY
    padded = np.zeros((m, -(-k // 8) * 8), dtype=np.float16)
    padded[:, :k] = x
    return Case(
        x=padded,
        weights=pack(tensor, pair=n // 2 if epilogue & SWIGLU else 0),
        bias=bias,
        residual=residual,
        y=y,
        bound=bound,
        epilogue=epilogue,
    )


def _linear(
    x: NDArray[np.float64], weight: NDArray[np.float64], is_scale_rounded: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """y = x w^T and how far fp32 sums of exact products may be from it.

    Products of fp16 and of integers are exact in fp32. Each of at most K + 64 additions (of
    products, of groups, of warps' or blocks' parts) rounds a number of at most sum |x w|, by one
    part in 2^23 (tensor cores truncate). Rounded weights add one part in 2^11 and what falls below
    the smallest fp16.
    """
    magnitude = np.abs(x) @ np.abs(weight).T
    bound = (x.shape[1] + 64) * 2.0**-23 * magnitude
    if is_scale_rounded:
        bound += HALF_ULP * magnitude + HALF_TINY * np.abs(x).sum(axis=1, keepdims=True)
    return x @ weight.T, bound


def _swiglu(
    y: NDArray[np.float64], bound: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """silu(gate) * up; |silu'| <= 1.1, and the fast functions are good to 2^-20."""
    half = y.shape[1] // 2
    gate, up = y[:, :half], y[:, half:]
    silu = gate / (1 + np.exp(-gate))
    gate_bound, up_bound = 1.1 * bound[:, :half], bound[:, half:]
    result = silu * up
    spread = gate_bound * np.abs(up) + np.abs(silu) * up_bound + gate_bound * up_bound
    return result, spread + 2.0**-19 * np.abs(result)
