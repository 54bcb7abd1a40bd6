"""The fp16 reference's linear: fp16 storage, executed in the fastest arithmetic for its rows.

bf16 and fp32 run on weights that oneDNN packed once (as `torch.compile` with freezing would do):
measured 1.1-3x faster than F.linear on plain weights, which repack or stride badly on each call. So
the reference is the fastest that torch has on this machine, not a straw man.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgebench_kernels.engine.arithmetic import Arithmetic, RegimeChoice

_TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_HUGE_PAGE_BYTES = 1 << 21

Product = Callable[[Tensor], Tensor]


class Fp16Linear:
    """y = x W^T for fp16 W [N, K] given as parts whose rows are concatenated; no bias.

    Copies for the other arithmetics are made on first use and shared by the regimes that use them.
    """

    def __init__(self, parts: Sequence[Tensor], regimes: RegimeChoice) -> None:
        widths = {part.shape[1] for part in parts}
        if len(widths) != 1 or any(part.dtype != torch.float16 for part in parts):
            raise ValueError("[engine] the parts of a linear must be fp16 [N, K] with the same K")
        self.shape = (sum(part.shape[0] for part in parts), widths.pop())
        self.regimes = regimes
        self._parts = tuple(parts)
        self._products: dict[Arithmetic, Product] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """f32 [..., K] -> f32 [..., N]."""
        rows = x.numel() // self.shape[1]
        return self.product(self.regimes.for_rows(rows))(x)

    def product(self, arithmetic: Arithmetic) -> Product:
        """The product in one arithmetic; its weights are prepared on the first call."""
        product = self._products.get(arithmetic)
        if product is None:
            product = _prepare(self._parts, arithmetic)
            self._products[arithmetic] = product
        return product

    def weight_bytes_at(self, rows: int) -> int:
        """Bytes of weights read for a product of this many rows, as executed."""
        itemsize = _TORCH[self.regimes.for_rows(rows)].itemsize
        return self.shape[0] * self.shape[1] * itemsize

    def describe(self) -> str:
        """The arithmetic of each regime."""
        return self.regimes.describe()


def _prepare(parts: Sequence[Tensor], arithmetic: Arithmetic) -> Product:
    if arithmetic == "fp16":
        half = _on_huge_pages(parts)

        def product_fp16(x: Tensor) -> Tensor:
            return F.linear(x.half(), half).float()

        return product_fp16
    dtype = _TORCH[arithmetic]
    weight = torch.cat([part.to(dtype) for part in parts])
    multiply = _packed_product(weight)
    if dtype == torch.float32:
        return multiply

    def product_bf16(x: Tensor) -> Tensor:
        return multiply(x.bfloat16()).float()

    return product_bf16


def _packed_product(weight: Tensor) -> Product:
    """Product with weights in oneDNN's own layout, or F.linear where this torch has no such op."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        run = torch.ops.mkldnn._linear_pointwise.default
        run(weight.new_zeros(1, weight.shape[1]), packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return lambda x: F.linear(x, weight)
    return lambda x: run(x, packed, None, "none", [], "")


def _on_huge_pages(parts: Sequence[Tensor]) -> Tensor:
    """The concatenated rows in one fresh fp16 tensor on 2 MiB pages where the system grants them.

    A stream of weights past the cache gains up to 10 %; the INT4 kernels do the same.
    """
    rows, width = sum(part.shape[0] for part in parts), parts[0].shape[1]
    size = rows * width * torch.float16.itemsize
    if size < _HUGE_PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.cat(list(parts)) if len(parts) > 1 else parts[0].clone()
    memory = mmap.mmap(-1, size)
    memory.madvise(mmap.MADV_HUGEPAGE)
    joined = torch.frombuffer(memory, dtype=torch.float16).view(rows, width)
    return torch.cat(list(parts), out=joined)
