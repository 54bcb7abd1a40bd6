"""The INT4 model's linears: packed weights shared by engines, the kernel path chosen per call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from edgebench_kernels.engine.arithmetic import Int4Path, PathChoice
from edgebench_kernels.engine.fused_tensors import fused_tensors
from edgebench_kernels.engine.weights import LlamaWeights
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
