"""Engines from a checkpoint: the fp16 reference, and INT4 with the same engine around it.

With `device="cuda"` they are `cuda.engine.GpuEngine`s, and a GPU that cannot be used is a
`cuda.errors.CudaError` that names the fix: nothing falls back to the CPU.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, cast

import torch

from edgebench_kernels.engine.arithmetic import (
    Int4Path,
    OpsChoice,
    OpsName,
    PathChoice,
    RegimeChoice,
)
from edgebench_kernels.engine.cache import CacheCell
from edgebench_kernels.engine.fuse import fused_linears, fused_shapes
from edgebench_kernels.engine.interface import DecodeEngine
from edgebench_kernels.engine.linear_fp16 import Fp16Linear
from edgebench_kernels.engine.model import Engine
from edgebench_kernels.engine.regimes import probe
from edgebench_kernels.engine.weights import LlamaWeights

if TYPE_CHECKING:
    from edgebench_kernels.cuda.linear import GpuInt4
    from edgebench_kernels.engine.linear_int4 import PackedLinear
    from edgebench_kernels.formats import Int4Tensor


def build_fp16(  # noqa: PLR0913 (keywords with defaults)
    weights: LlamaWeights,
    regimes: RegimeChoice | None = None,
    *,
    max_batch: int = 1,
    max_length: int = 512,
    cell: CacheCell = "fp16",
    ops: OpsName | OpsChoice | None = None,
    device: str | torch.device = "cpu",
) -> DecodeEngine:
    """The reference: fp16 weights in the given arithmetic per regime, or as measured if None.

    `cell` and `ops` as in `Engine`, the same defaults as INT4: only the linears differ. On a GPU
    cuBLAS multiplies fp16, whatever the rows: `regimes` and `ops` are the CPU's.
    """
    if torch.device(device).type != "cpu":
        from edgebench_kernels.cuda.engine_build import build_fp16_on
        from edgebench_kernels.cuda.engine_state import Room
        from edgebench_kernels.cuda.launcher import launcher_of

        _refuse_on_gpu(regimes=regimes, ops=ops)
        room = Room(max_batch=max_batch, max_length=max_length, cell=cell)
        return build_fp16_on(launcher_of(device), weights, room)
    choice = probe(weights) if regimes is None else regimes
    linears = {
        fused: Fp16Linear([weights.linear(name) for name in names], choice)
        for fused, names in fused_linears(weights.config).items()
    }
    return Engine(
        weights.config,
        weights.tensors,
        linears,
        max_batch=max_batch,
        max_length=max_length,
        cell=cell,
        ops=ops,
    )


def build_int4(  # noqa: PLR0913 (keywords with defaults)
    weights: LlamaWeights,
    quantized: Mapping[str, Int4Tensor],
    path: Int4Path | PathChoice = "w4a16",
    *,
    max_batch: int = 1,
    max_length: int = 512,
    cell: CacheCell = "fp16",
    ops: OpsName | OpsChoice | None = None,
    packed: Mapping[str, PackedLinear | GpuInt4] | None = None,
    kept: Collection[str] = (),
    device: str | torch.device = "cpu",
) -> DecodeEngine:
    """The INT4 engine: every linear packed, the embedding row and the norms as in the reference.

    `packed` (from `pack_int4` for the same device) is used instead of packing `quantized`
    again: engines of different paths then share one copy of the weights. The engine's linears in
    `kept` are no INT4, as lm_head in most checkpoints: fp16 weights, multiplied in fp32.
    """
    from edgebench_kernels.engine.linear_int4 import PackedLinear, PathLinear, pack_int4

    if packed is None:
        packed = pack_int4(weights, quantized, device, kept)
    choice = PathChoice.of(path)
    if torch.device(device).type != "cpu":
        from edgebench_kernels.cuda.engine_build import build_int4_on
        from edgebench_kernels.cuda.engine_state import Room
        from edgebench_kernels.cuda.launcher import launcher_of
        from edgebench_kernels.cuda.linear import GpuInt4

        _refuse_on_gpu(ops=ops, kept=kept or None)
        room = Room(max_batch=max_batch, max_length=max_length, cell=cell)
        weights_on_gpu = cast(Mapping[str, GpuInt4], packed)
        return build_int4_on(launcher_of(device), weights, weights_on_gpu, choice, room)
    names, fp32 = fused_linears(weights.config), RegimeChoice.uniform("fp32")
    linears = {
        name: Fp16Linear([weights.linear(part) for part in names[name]], fp32)
        if name in kept
        else PathLinear(cast(PackedLinear, packed[name]), shape, choice)
        for name, shape in fused_shapes(weights.config).items()
    }
    return Engine(
        weights.config,
        weights.tensors,
        linears,
        max_batch=max_batch,
        max_length=max_length,
        cell=cell,
        ops=ops,
    )


def _refuse_on_gpu(**given: object) -> None:
    """Raise ValueError for a choice that a GPU does not have."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"[engine] {name} is chosen on CPUs only, got {value}; omit it")
