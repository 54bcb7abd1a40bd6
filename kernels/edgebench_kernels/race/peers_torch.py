"""PyTorch as a peer: its INT4 matrix product and its dense bf16 and fp16 linears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import Int4Tensor, dequantize, unpack_codes
from edgebench_kernels.race.cases import copies_past_cache


class TorchPeer:
    """A product of torch's, on weights that rotate."""

    operations = 2
    products = 1

    def __init__(self, op: str, weights: list[Any], product: Callable[..., Any]) -> None:
        import torch

        self.op = op
        self.group: int | None = None
        self.ceiling = None if op == "fp16" else "bf16"  # no fp16 ceiling is measured
        self.weight_bytes = sum(part.numel() * part.element_size() for part in weights[0])
        self._dtype = torch.float16 if op == "fp16" else torch.bfloat16
        self._weights, self._product, self._next = weights, product, 0

    def prepare(self, x: NDArray[np.float32]) -> None:
        """Take x in the peer's own type: its conversion is not timed."""
        import torch

        self._x = torch.from_numpy(x).to(self._dtype)

    def call(self) -> None:
        """One product on the next copy."""
        self._next = (self._next + 1) % len(self._weights)
        self._product(self._x, *self._weights[self._next])

    def first_output(self) -> NDArray[np.float32]:
        """The product, widened."""
        y: NDArray[np.float32] = self._product(self._x, *self._weights[0]).float().numpy()
        return y


def dense(tensor: Int4Tensor, threads: int, op: str) -> TorchPeer:
    """F.linear in bf16 or fp16 on the dequantized weights."""
    import torch

    torch.set_num_threads(threads)
    weight = torch.from_numpy(dequantize(tensor))
    weight = weight.to(torch.bfloat16 if op == "bf16" else torch.float16)
    copies = copies_past_cache(weight.numel() * 2)
    weights = [(weight.clone(),) for _ in range(copies)]
    return TorchPeer(op, weights, torch.nn.functional.linear)


def int4pack(tensor: Int4Tensor, threads: int) -> TorchPeer:
    """torch's own INT4 product for CPUs, in bf16.

    It computes (code - 8) * scale + zero, so our zero point becomes (8 - zero) * scale.
    """
    import torch

    torch.set_num_threads(threads)
    codes = torch.from_numpy(unpack_codes(tensor).astype(np.int32))
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scale = tensor.scale.astype(np.float32).T
    shift = (8 - tensor.zero.astype(np.float32).T) * scale
    both = torch.from_numpy(np.stack([scale, shift], axis=-1)).to(torch.bfloat16).contiguous()
    copies = copies_past_cache(packed.numel() * packed.element_size())
    weights = [(packed.clone(), both.clone()) for _ in range(copies)]
    group = tensor.group

    def product(x: Any, codes: Any, scales: Any) -> Any:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, codes, group, scales)

    peer = TorchPeer("w4a16", weights, product)
    peer.group = group
    return peer
