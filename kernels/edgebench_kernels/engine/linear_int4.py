"""The INT4 model's linears: packed weights shared by engines, the kernel path chosen per call."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from edgebench_kernels.engine.arithmetic import Int4Path, PathChoice
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.weights import LlamaWeights, linear_shapes
from edgebench_kernels.formats import Int4Tensor

if TYPE_CHECKING:
    from edgebench_kernels.cuda.linear import GpuInt4


class PackedLinear(Protocol):
    """What the engine needs of `edgebench_kernels.linear.Int4Linear`."""

    path: Int4Path
    weight_bytes: int

    def forward(self, x: Tensor) -> Tensor:
        """f32 [..., K] -> f32 [..., N]."""


class PathLinear:
    """One packed linear seen through a PathChoice; several of these may share packed weights."""

    def __init__(self, packed: PackedLinear, shape: tuple[int, int], paths: PathChoice) -> None:
        self.shape = shape
        self.packed = packed
        self.paths = paths

    def __call__(self, x: Tensor) -> Tensor:
        """f32 [..., K] -> f32 [..., N]."""
        packed = self.packed
        path = self.paths.for_rows(x.numel() // self.shape[1])
        if packed.path != path:
            packed.path = path
        return packed.forward(x)

    def weight_bytes_at(self, rows: int) -> int:
        """Packed bytes read, the same for every path."""
        return self.packed.weight_bytes

    def describe(self) -> str:
        """The path of each regime."""
        return self.paths.describe()


def pack_int4(
    weights: LlamaWeights,
    quantized: Mapping[str, Int4Tensor],
    device: str | torch.device = "cpu",
    kept: Collection[str] = (),
) -> dict[str, PackedLinear] | dict[str, GpuInt4]:
    """Fuse and pack quantized tensors for an engine: {'layers.0.qkv': Int4Linear, ...}.

    On a GPU they are `cuda.linear.GpuInt4`s. `quantized` is keyed by Hugging Face tensor names,
    with or without '.weight'. On a CPU, the engine's linears in `kept` are not packed. Raises
    ValueError naming a tensor that is missing, misshapen or grouped unlike those it is fused with.
    """
    if torch.device(device).type != "cpu":
        from edgebench_kernels.cuda.engine_build import pack_int4_on
        from edgebench_kernels.cuda.launcher import launcher_of

        return pack_int4_on(launcher_of(device), weights, quantized)
    from edgebench_kernels.linear import Int4Linear

    packed: dict[str, PackedLinear] = {
        name: Int4Linear.from_tensor(tensor)
        for name, tensor in fused_tensors(weights, quantized, kept)
    }
    return packed


def fused_tensors(
    weights: LlamaWeights, quantized: Mapping[str, Int4Tensor], kept: Collection[str] = ()
) -> Iterator[tuple[str, Int4Tensor]]:
    """Each of the engine's linears with its quantized rows, one at a time; see pack_int4."""
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
