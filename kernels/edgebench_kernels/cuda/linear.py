"""INT4 weights on a GPU and their products: one layout, and the kernel that the table names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgebench_kernels.cuda import geometry, paths
from edgebench_kernels.cuda.geometry import CHUNK_BYTES, CHUNK_INPUTS
from edgebench_kernels.cuda.launcher import Launcher, memory_errors
from edgebench_kernels.cuda.layout import TILE_ROWS, kernel_group, padded_inputs
from edgebench_kernels.cuda.products import PRODUCTS
from edgebench_kernels.formats import Int4Tensor

HALFS = 8  # fp16 numbers of 16 bytes: rows of x are whole ones


@dataclass(slots=True, kw_only=True)
class Squares:
    """Sums of squares of the rows of the residual stream, in parts, between two products.

    values: f32, room for the rows and parts of any product.   parts: of a row, as the product that
    wrote them made them.   eps: of the norm.
    """

    values: Tensor
    eps: float
    parts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """x f32 [M, N] += the product; y becomes x * weight / 16, and squares those of x.

    weight: f32 [N], of the norm behind. For a product with `Product.squares`.
    """

    x: Tensor
    weight: Tensor
    squares: Squares


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """y = x W^T with what is fused behind it, in this order: bias, SwiGLU, residual.

    x: fp16 [M, K padded to 8].   y: fp16 or fp32 [M, outputs], contiguous.   bias: fp16 [N].
    residual: fp16 [M, outputs], may be y.   overlap: the kernel that makes x may still run.
    stream: y is not stored but joins the residual stream.   squares: x is what a product with
    `stream` left, whose norm this one finishes. Both by `w4a16_gemv` alone, without bias and
    residual.
    """

    x: Tensor
    y: Tensor
    bias: Tensor | None = None
    residual: Tensor | None = None
    overlap: bool = False
    stream: Stream | None = None
    squares: Squares | None = None


class GpuInt4:
    """A weight matrix [N, K] in layout T16x64 on a GPU.

    With `pair` = N / 2 rows i and i + pair share a lane: they are gate and up, and outputs are
    SwiGLU's N / 2.
    """

    def __init__(
        self, launcher: Launcher, data: Tensor, shape: tuple[int, int], group: int, pair: int
    ) -> None:
        self.launcher = launcher
        self.device = launcher.device
        self.data = data
        self.shape = shape
        self.group = group
        self.pair = pair
        self.inputs = _whole_halfs(shape[1])
        self.kernel_group = kernel_group(shape[1], group)

    @classmethod
    def pack(cls, launcher: Launcher, tensor: Int4Tensor, *, pair: int = 0) -> GpuInt4:
        """Bring the canonical tensor to the GPU and repack it there; the tensor is not kept.

        Raises CudaMemoryError, and ValueError unless 2 pair is 0 or N.
        """
        n, k = tensor.shape
        if pair and n != 2 * pair:
            raise ValueError(f"[pack] N must be 2 * pair, got N={n}, pair={pair}")
        group = kernel_group(k, tensor.group)
        size = (-(-n // TILE_ROWS), padded_inputs(k) * CHUNK_BYTES[group] // CHUNK_INPUTS)
        with memory_errors(launcher, "pack"):
            data = torch.empty(size, dtype=torch.uint8, device=launcher.device)
            parts = [
                _upload(a, launcher.device) for a in (tensor.qweight, tensor.scale, tensor.zero)
            ]
        launcher.run(geometry.repack(n, k, group), [*parts, data, n, k, int(tensor.group), pair])
        return cls(launcher, data, (n, k), int(tensor.group), pair)

    @property
    def size_bytes(self) -> int:
        """Packed bytes, padding included."""
        return self.data.nbytes

    @property
    def outputs(self) -> int:
        """Columns of y."""
        return self.shape[0] // 2 if self.pair else self.shape[0]

    def bytes_at(self, path: str, rows: int) -> int:
        """Bytes of weights that a product of so many rows reads, as executed."""
        is_dequantized = paths.kernel_for(path, self.launcher.arch, rows) == paths.CUBLAS
        dequantized = 2 * self.shape[0] * self.inputs if is_dequantized else 0
        return self.size_bytes + dequantized

    def product(self, path: str) -> Callable[[Tensor, Tensor], None]:
        """The product from float32 [..., K] to float32 [..., outputs], both contiguous."""
        paths.choices(path, self.launcher.arch)

        def product(x: Tensor, y: Tensor) -> None:
            rows = x.view(-1, self.shape[1])
            with memory_errors(self.launcher, path):
                half = F.pad(rows, (0, self.inputs - self.shape[1])).half()
            self.multiply(path, Product(x=half, y=y.view(-1, self.outputs)))

        return product

    def multiply(self, path: str, product: Product) -> None:
        """Start the product, by the kernel that the table of paths names for its rows."""
        rows = self._checked_rows(product)
        if not rows:
            return
        kernel = paths.kernel_for(path, self.launcher.arch, rows)
        if (product.stream or product.squares) and kernel != paths.GEMV:
            raise ValueError(f"[GpuInt4] only {paths.GEMV} joins norms, {rows} rows take {kernel}")
        PRODUCTS[kernel](self, product)

    def _checked_rows(self, product: Product) -> int:
        x, y = product.x, product.y
        is_right = x.dtype == torch.float16 and y.dtype in (torch.float16, torch.float32)
        wanted = (x.shape[0], self.inputs), (x.shape[0], self.outputs)
        if not is_right or (tuple(x.shape), tuple(y.shape)) != wanted:
            raise ValueError(
                f"[GpuInt4] expected x fp16 {list(wanted[0])} and y fp16 or fp32 "
                f"{list(wanted[1])}, got {x.dtype} {list(x.shape)} and {y.dtype} {list(y.shape)}"
            )
        if not (x.is_contiguous() and y.is_contiguous()):
            raise ValueError("[GpuInt4] x and y must be contiguous")
        return x.shape[0]


def _upload(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=("C", "W"))).to(device)


def _whole_halfs(k: int) -> int:
    return -(-k // HALFS) * HALFS
