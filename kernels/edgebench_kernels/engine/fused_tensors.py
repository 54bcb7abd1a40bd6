"""An engine's linears out of quantized tensors: the rows of those that share an input, joined."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.weights import LlamaWeights, linear_shapes
from edgebench_kernels.formats import Int4Tensor


def fused_tensors(
    weights: LlamaWeights, quantized: Mapping[str, Int4Tensor], kept: Collection[str] = ()
) -> Iterator[tuple[str, Int4Tensor]]:
    """Each of the engine's linears with its quantized rows, one at a time.

    Raises ValueError as linear_int4.pack_int4 says; the linears in `kept` are left out.
    """
    shapes = linear_shapes(weights.config)
    for fused, names in fused_linears(weights.config).items():
        if fused in kept:
            continue
        parts = [_find(quantized, name, shapes[name]) for name in names]
        yield fused, concat_rows(names, parts)


def concat_rows(names: Sequence[str], parts: Sequence[Int4Tensor]) -> Int4Tensor:
    """One Int4Tensor [sum N, K]; each part keeps the codes it was quantized to on its own."""
    if len({(part.group, part.shape[1]) for part in parts}) != 1:
        layout = ", ".join(f"{n}: group {p.group}" for n, p in zip(names, parts, strict=True))
        raise ValueError(f"[engine] fused tensors must have one group size, got {layout}")
    if len(parts) == 1:
        return parts[0]
    return Int4Tensor(
        qweight=np.concatenate([part.qweight for part in parts]),
        scale=np.concatenate([part.scale for part in parts]),
        zero=np.concatenate([part.zero for part in parts]),
        group=parts[0].group,
    )


def _find(quantized: Mapping[str, Int4Tensor], name: str, shape: tuple[int, int]) -> Int4Tensor:
    tensor = quantized.get(name, quantized.get(name.removesuffix(".weight")))
    if tensor is None:
        raise ValueError(f"[engine] the quantized tensor {name} is missing")
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"[engine] the quantized tensor {name} must have shape {list(shape)}, "
            f"got {list(tensor.shape)}"
        )
    return tensor
