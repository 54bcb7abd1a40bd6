"""Other people's INT4 products as contenders: torch's own, and humming's where it is installed."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgebench_kernels.cuda.check.contenders import Contender, Weights
from edgebench_kernels.cuda.check.events import Skipped
from edgebench_kernels.formats import Int4Tensor, dequantize
from edgebench_kernels.race.cases import random_tensor

INNER_K_TILES = 8  # what torchao takes
TORCH_INT4 = "torch int4 (bf16)"
HUMMING = "humming w4a16"


@dataclass(frozen=True, slots=True)
class TorchInt4:
    """Weights as `torch.ops.aten._weight_int4pack_mm` reads them."""

    codes: Tensor
    scales: Tensor
    group: int

    def multiply(self, x: Tensor) -> Tensor:
        """y bf16 [M, N] of x bf16 [M, K]."""
        return torch.ops.aten._weight_int4pack_mm(x, self.codes, self.group, self.scales)

    @property
    def size_bytes(self) -> int:
        """That one product reads."""
        return self.codes.nbytes + self.scales.nbytes

    def clone(self) -> TorchInt4:
        """The same in other memory."""
        return TorchInt4(self.codes.clone(), self.scales.clone(), self.group)


def pack_torch(tensor: Int4Tensor, device: torch.device, *, is_high_first: bool) -> TorchInt4:
    """Torch computes (code - 8) * scale + zero, so our zero point becomes (8 - zero) * scale.

    is_high_first: of two codes in a byte, the high one is of the even input.
    """
    codes = torch.from_numpy(tensor.qweight).to(device)
    if is_high_first:
        codes = (codes << 4) | (codes >> 4)
    scale = torch.from_numpy(tensor.scale).to(device).float().T
    shift = (8 - torch.from_numpy(tensor.zero).to(device).float().T) * scale
    both = torch.stack([scale, shift], dim=-1).to(torch.bfloat16).contiguous()
    packed = torch.ops.aten._convert_weight_to_int4pack(codes, INNER_K_TILES)
    return TorchInt4(packed, both, tensor.group)


@functools.cache
def is_high_first(device: torch.device) -> bool:
    """Which order of nibbles this torch packs, found by multiplying."""
    tensor = random_tensor(64, 1024, 128)
    weight = torch.from_numpy(dequantize(tensor)).to(device).double()
    x = torch.randn(16, 1024, device=device).bfloat16()
    exact = x.double() @ weight.T
    errors = {}
    for order in (True, False):
        y = pack_torch(tensor, device, is_high_first=order).multiply(x)
        errors[order] = float((y.double() - exact).norm())
    return errors[True] <= errors[False]


def torch_int4() -> Contender:
    """`_weight_int4pack_mm`: bf16 activations, converted before the clock starts."""

    def make(weights: Weights) -> TorchInt4:
        device = weights.launcher.device
        return pack_torch(weights.tensor, device, is_high_first=is_high_first(device))

    def copies(weights: Weights) -> list[TorchInt4]:
        size = weights.tensor.size_bytes
        return weights.copies("torch int4", lambda: make(weights), TorchInt4.clone, size)

    def products(weights: Weights, x: Tensor) -> tuple[Sequence[Callable[[], object]], Tensor]:
        y = torch.empty(len(x), weights.shape[0], dtype=torch.bfloat16, device=x.device)
        made, wide = copies(weights), x.bfloat16()
        calls: list[Callable[[], object]] = [
            _bound_out(one, wide, y) if one is made[-1] else _bound(one, wide) for one in made
        ]
        return calls, y

    return Contender(
        name=TORCH_INT4,
        op="w4a16",
        tolerance=1.5e-2,
        products=products,
        size_bytes=lambda weights: copies(weights)[0].size_bytes,
    )


def _bound(one: TorchInt4, x: Tensor) -> Callable[[], object]:
    return lambda: one.multiply(x)


def _bound_out(one: TorchInt4, x: Tensor, y: Tensor) -> Callable[[], object]:
    """The last product also shows what it made."""
    return lambda: y.copy_(one.multiply(x))


def humming() -> Contender:
    """humming-kernels with its own heuristics; it quantizes the weights anew, symmetrically."""

    def make(weights: Weights) -> Any:
        try:
            from humming.layer import HummingLayer  # type: ignore[import-not-found]
        except ImportError as err:
            raise Skipped(f"humming-kernels is not installed ({err})") from err
        n, k = weights.shape
        layer = HummingLayer(
            shape_n=n,
            shape_k=k,
            weight_config={"dtype": "int4", "group_size": weights.tensor.group},
            torch_dtype=torch.float16,
        ).to(weights.launcher.device)
        layer.load_from_unquantized(weights.dense())
        layer.transform()
        return layer

    def products(weights: Weights, x: Tensor) -> tuple[Sequence[Callable[[], object]], Tensor]:
        y = torch.empty(len(x), weights.shape[0], dtype=torch.float16, device=x.device)
        size = weights.tensor.size_bytes
        layers = weights.copies("humming", lambda: make(weights), copy.deepcopy, size)
        return [_bound_layer(layer, x, y) for layer in layers], y

    return Contender(
        name=HUMMING,
        op="w4a16",
        tolerance=0.15,
        products=products,
        size_bytes=lambda weights: weights.tensor.size_bytes,
    )


def _bound_layer(layer: Any, x: Tensor, y: Tensor) -> Callable[[], object]:
    return lambda: layer(x, outputs=y)
