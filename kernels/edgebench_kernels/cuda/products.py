"""How each kernel that the table of paths names multiplies: its launch, and its arguments in order.

`PRODUCTS` is what `paths` points to; a kernel that is named there has a row here. `w4a16_cluster`
and `w4a16_multicast` are raced and not chosen: no GPU has timed them yet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from edgebench_kernels.cuda import (
    cluster_geometry,
    geometry,
    large_geometry,
    multicast_geometry,
    paths,
    step_geometry,
)
from edgebench_kernels.cuda.geometry import (
    BIAS,
    FLOAT_OUT,
    NORMED,
    RESIDUAL,
    STREAM,
    SWIGLU,
    Launch,
    Linear,
)
from edgebench_kernels.cuda.large_geometry import A8Scales
from edgebench_kernels.cuda.launcher import Argument, Launcher, memory_errors
from edgebench_kernels.cuda.layout import padded_inputs
from edgebench_kernels.cuda.scratch import SPLIT_K
from edgebench_kernels.cuda.step_geometry import Codes

if TYPE_CHECKING:
    from edgebench_kernels.cuda.linear import GpuInt4, Product

Run = Callable[["GpuInt4", "Product"], None]


def swiglu(launcher: Launcher, gate_up: Tensor, y: Tensor | None = None) -> Tensor:
    """silu(gate) * up of rows fp16 [M, 2 I], I a multiple of 8 -> fp16 [M, I]."""
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    if y is None:
        y = torch.empty(rows, inner, dtype=torch.float16, device=gate_up.device)
    arguments = [gate_up, y, None, None, None, rows, inner]
    launcher.run(step_geometry.swiglu(rows, inner), arguments, overlap=True)
    return y


def _gemv(weights: GpuInt4, product: Product) -> None:
    gpu, linear = weights.launcher, _linear(weights, product)
    plan, parts = _gemv_plan(linear, gpu.multiprocessors, gpu.shared_bytes)
    if product.stream is not None:
        product.stream.squares.parts = parts
    _run(weights, product, plan, product.x, overlap=product.overlap)


def _planned(plan_of: Callable[[Linear, int, int], Launch]) -> Run:
    """A kernel that is passed x as it is."""

    def run(weights: GpuInt4, product: Product) -> None:
        gpu = weights.launcher
        plan = plan_of(_linear(weights, product), gpu.multiprocessors, gpu.shared_bytes)
        _run(weights, product, plan, product.x, overlap=product.overlap)

    return run


def _a8(
    weights: GpuInt4, product: Product, *, is_wgmma: bool = False, is_token_scale: bool = False
) -> None:
    """Activations to int8 first; rows of codes are whole tiles long.

    Where tokens have one scale, and a row of weights too, integers are added over all of K.
    """
    gpu, rows = weights.launcher, product.x.shape[0]
    inputs, group = padded_inputs(weights.inputs), weights.kernel_group
    linear = _linear(weights, product, inputs)
    with memory_errors(gpu, "quantize"):
        x = F.pad(product.x, (0, inputs - weights.inputs)) if inputs > weights.inputs else product.x
        codes = torch.empty(rows, inputs, dtype=torch.int8, device=x.device)
        scale = torch.empty(1 if is_token_scale else inputs // group, rows, device=x.device)
        sums = torch.empty(inputs // group, rows, dtype=torch.int32, device=x.device)
    plan = step_geometry.quantize(rows, inputs, Codes(group=group, is_token_scale=is_token_scale))
    gpu.run(plan, [x, codes, scale, sums, rows, inputs], overlap=product.overlap)
    of_row = A8Scales.ROW if weights.group >= weights.shape[1] else A8Scales.TOKEN
    scales = of_row if is_token_scale else A8Scales.GROUP
    make = _a8_wgmma_plan if is_wgmma else _a8_gemm_plan
    plan = make(linear, gpu.multiprocessors, gpu.shared_bytes, scales)
    _run(weights, product, plan, codes, scale, inputs=inputs, overlap=True)


def _cublas(weights: GpuInt4, product: Product) -> None:
    """Weights to fp16, then torch's product, then what the other kernels fuse."""
    gpu, (n, k), inputs = weights.launcher, weights.shape, weights.inputs
    x, y, residual = product.x, product.y, product.residual
    is_own = residual is None or residual.data_ptr() != y.data_ptr()
    room = y if is_own and y.dtype == torch.float16 else None
    with memory_errors(gpu, "w4_dequant"):
        weight = torch.empty(n, inputs, dtype=torch.float16, device=gpu.device)
        made = torch.empty(len(x), n, dtype=x.dtype, device=x.device) if weights.pair else room
        made = torch.empty_like(y, dtype=x.dtype) if made is None else made
    plan = geometry.dequant(n, k, weights.kernel_group)
    gpu.run(plan, [weights.data, weight, n, k, weights.pair, inputs])
    torch.mm(x, weight.T, out=made)
    if product.bias is not None:
        made += product.bias
    if weights.pair:
        made = swiglu(gpu, made, room)
    if residual is not None:
        made += residual
    if made is not y:
        y.copy_(made)


def _run(
    weights: GpuInt4,
    product: Product,
    plan: Launch,
    *activations: Tensor,
    inputs: int | None = None,
    overlap: bool,
) -> None:
    """The arguments that all linears have in common."""
    tensors = (*activations, weights.data, product.bias, product.residual, product.y)
    sizes = (product.x.shape[0], weights.shape[0], inputs or weights.inputs)
    more = extra(plan, weights.launcher, product)
    weights.launcher.run(plan, [*tensors, *sizes, *more], overlap=overlap)


def extra(plan: Launch, launcher: Launcher, product: Product | None = None) -> Sequence[Argument]:
    """The arguments behind those that all linears have."""
    if plan.kernel != paths.GEMV:
        return launcher.scratch.of(plan) if plan.kernel in SPLIT_K else ()
    stream = product and product.stream
    squares = stream.squares if stream else product and product.squares
    if not squares:
        return None, None, None, 0, 0.0
    x, weight = (stream.x, stream.weight) if stream else (None, None)
    return x, weight, squares.values, squares.parts, squares.eps


def _linear(weights: GpuInt4, product: Product, inputs: int | None = None) -> Linear:
    flags = (
        (BIAS, product.bias is not None),
        (RESIDUAL, product.residual is not None),
        (SWIGLU, weights.pair > 0),
        (FLOAT_OUT, product.y.dtype == torch.float32),
        (STREAM, product.stream is not None),
        (NORMED, product.squares is not None),
    )
    return Linear(
        m=product.x.shape[0],
        n=weights.shape[0],
        k=inputs or weights.inputs,
        group=weights.kernel_group,
        epilogue=sum(flag for flag, is_set in flags if is_set),
        is_dependent=product.overlap and weights.launcher.can_overlap,
    )


@functools.lru_cache(maxsize=1024)
def _gemv_plan(linear: Linear, multiprocessors: int, shared_bytes: int) -> tuple[Launch, int]:
    """And the parts of a row that it writes at a time."""
    tuning = geometry.gemv_tuning(linear, multiprocessors, shared_bytes)
    return geometry.gemv(linear, tuning), geometry.gemv_parts(linear, tuning)


@functools.lru_cache(maxsize=1024)
def _gemm_plan(linear: Linear, multiprocessors: int, shared_bytes: int) -> Launch:
    return geometry.gemm(linear, geometry.gemm_tuning(linear, multiprocessors, shared_bytes))


@functools.lru_cache(maxsize=1024)
def _cluster_plan(linear: Linear, multiprocessors: int, shared_bytes: int) -> Launch:
    tuning = cluster_geometry.cluster_tuning(linear, multiprocessors, shared_bytes)
    if tuning is None:
        raise ValueError(
            f"[w4a16_cluster] expected tokens whose part of K fits in {shared_bytes} bytes, got "
            f"M={linear.m}, K={linear.k}; use w4a16_wgmma"
        )
    return cluster_geometry.w4a16_cluster(linear, tuning)


@functools.lru_cache(maxsize=1024)
def _wgmma_plan(linear: Linear, multiprocessors: int, shared_bytes: int) -> Launch:
    tuning = large_geometry.wgmma_tuning(linear, multiprocessors, shared_bytes)
    return large_geometry.w4a16_wgmma(linear, tuning)


@functools.lru_cache(maxsize=1024)
def _multicast_plan(linear: Linear, _multiprocessors: int, shared_bytes: int) -> Launch:
    tuning = multicast_geometry.multicast_tuning(linear, shared_bytes)
    return multicast_geometry.w4a16_multicast(linear, tuning)


@functools.lru_cache(maxsize=1024)
def _a8_gemm_plan(
    linear: Linear, multiprocessors: int, shared_bytes: int, scales: A8Scales
) -> Launch:
    tuning = large_geometry.a8_tuning(linear, multiprocessors, shared_bytes)
    return large_geometry.w4a8_gemm(linear, tuning, scales)


@functools.lru_cache(maxsize=1024)
def _a8_wgmma_plan(
    linear: Linear, multiprocessors: int, shared_bytes: int, scales: A8Scales
) -> Launch:
    tuning = large_geometry.a8_wgmma_tuning(linear, multiprocessors, shared_bytes)
    return large_geometry.w4a8_wgmma(linear, tuning, scales)


PRODUCTS: dict[str, Run] = {
    paths.GEMV: _gemv,
    paths.GEMM: _planned(_gemm_plan),
    paths.CLUSTER: _planned(_cluster_plan),
    paths.WGMMA: _planned(_wgmma_plan),
    paths.MULTICAST: _planned(_multicast_plan),
    paths.CUBLAS: _cublas,
    paths.A8_GEMM: _a8,
    paths.A8_WGMMA: functools.partial(_a8, is_wgmma=True),
    paths.A8_GEMM_TOKEN: functools.partial(_a8, is_token_scale=True),
    paths.A8_WGMMA_TOKEN: functools.partial(_a8, is_wgmma=True, is_token_scale=True),
}
