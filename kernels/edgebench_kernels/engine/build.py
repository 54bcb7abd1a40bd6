"""Engines from a checkpoint: the fp16 reference, and INT4 with the same graph around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgebench_kernels.engine.arithmetic import (
    Int4Path,
    OpsChoice,
    OpsName,
    PathChoice,
    RegimeChoice,
)
from edgebench_kernels.engine.cache import CacheCell
from edgebench_kernels.engine.fuse import fused_linears, fused_shapes
from edgebench_kernels.engine.linear_fp16 import Fp16Linear
from edgebench_kernels.engine.model import Engine
from edgebench_kernels.engine.regimes import probe
from edgebench_kernels.engine.weights import LlamaWeights

if TYPE_CHECKING:
    from edgebench_kernels.engine.linear_int4 import PackedLinear
    from edgebench_kernels.formats import Int4Tensor


def build_fp16(
    weights: LlamaWeights,
    regimes: RegimeChoice | None = None,
    *,
    max_batch: int = 1,
    max_length: int = 512,
    cell: CacheCell = "fp16",
    ops: OpsName | OpsChoice | None = None,
) -> Engine:
    """The reference: fp16 weights in the given arithmetic per regime, or as measured if None.

    `cell` and `ops` as in `Engine`, the same defaults as INT4: only the linears differ.
    """
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
    packed: Mapping[str, PackedLinear] | None = None,
) -> Engine:
    """The INT4 engine: every linear packed, the embedding row and the norms as in the reference.

    `packed` (from `pack_int4`) is used instead of packing `quantized`
    again: engines of different paths then share one copy of the weights.
    """
    from edgebench_kernels.engine.linear_int4 import PathLinear, pack_int4

    if packed is None:
        packed = pack_int4(weights, quantized)
    choice = PathChoice.of(path)
    shapes = fused_shapes(weights.config)
    linears = {name: PathLinear(packed[name], shape, choice) for name, shape in shapes.items()}
    return Engine(
        weights.config,
        weights.tensors,
        linears,
        max_batch=max_batch,
        max_length=max_length,
        cell=cell,
        ops=ops,
    )
