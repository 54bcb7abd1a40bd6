"""Who multiplies in the layer's table: our kernels, torch's fp16 and INT4, humming where it is.

A contender makes a cell of one shape and one number of tokens: products on copies of the weights
that together are larger than the L2 cache by far, in one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgebench_kernels.cuda.check.layer import GROUP, SHAPES, is_applicable
from edgebench_kernels.cuda.check.timer import Timed
from edgebench_kernels.cuda.launcher import GpuLauncher
from edgebench_kernels.cuda.linear import GpuInt4, Product
from edgebench_kernels.cuda.products import PRODUCTS
from edgebench_kernels.formats import Int4Tensor, dequantize
from edgebench_kernels.race.cases import random_tensor

CACHE_FACTOR = 4
MOST_COPIES = 48
COMPARED = 256
"""Outputs that are held against float64, spread over all."""

FP16 = "torch fp16"
NO_OVERLAP = "w4a16_gemv, alone"


@dataclass(slots=True)
class Weights:
    """One linear's weights, as contenders ask for them; copies are made when first asked for."""

    name: str
    launcher: GpuLauncher
    l2_bytes: int
    tensor: Int4Tensor
    _kept: dict[str, list[Any]] = field(default_factory=dict)
    _by_row: Weights | None = None

    @staticmethod
    def of(name: str, launcher: GpuLauncher, l2_bytes: int) -> Weights:
        """Random codes, scales and zero points."""
        n, k = SHAPES[name]
        return Weights(name, launcher, l2_bytes, random_tensor(n, k, GROUP))

    def by_row(self) -> Weights:
        """Others of the same shape, whose rows have one scale each."""
        if self._by_row is None:
            n, k = self.shape
            tensor = random_tensor(n, k, k)
            self._by_row = Weights(self.name, self.launcher, self.l2_bytes, tensor)
        return self._by_row

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        return self.tensor.shape

    def copies(
        self, kind: str, make: Callable[[], Any], again: Callable[[Any], Any], size: int
    ) -> list[Any]:
        """The copies of a kind: the first is made, the others are made from it."""
        if kind not in self._kept:
            count = copies_past(self.l2_bytes, size)
            first = make()
            self._kept[kind] = [first, *(again(first) for _ in range(count - 1))]
        return self._kept[kind]

    def dense(self) -> Tensor:
        """The weights in fp16 on the GPU."""
        return torch.from_numpy(dequantize(self.tensor)).to(self.launcher.device).half()

    def compared(self) -> tuple[Tensor, Tensor]:
        """Which outputs are compared, and their weights in float64."""
        n = self.shape[0]
        rows = np.unique(np.linspace(0, n - 1, min(n, COMPARED)).astype(np.int64))
        parts = {name: getattr(self.tensor, name)[rows] for name in ("qweight", "scale", "zero")}
        weight = dequantize(Int4Tensor(group=self.tensor.group, **parts))
        device = self.launcher.device
        return torch.from_numpy(rows).to(device), torch.from_numpy(weight).to(device).double()


def copies_past(l2_bytes: int, size_bytes: int) -> int:
    """Copies of a matrix that rotate, so that none of it is in the L2 cache when it is read."""
    return max(2, min(MOST_COPIES, -(-CACHE_FACTOR * l2_bytes // max(1, size_bytes))))


@dataclass(slots=True, kw_only=True)
class Cell:
    """A contender at one shape and number of tokens. error: of its outputs, relative."""

    contender: str
    shape: str
    m: int
    timed: Timed
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """products: of weights and x fp16 [M, K] one call for each copy, and where y [M, N] is then.

    tolerance: of the relative error of y.   size_bytes: of the weights that one product reads.
    """

    name: str
    op: str
    tolerance: float
    products: Callable[[Weights, Tensor], tuple[Sequence[Callable[[], object]], Tensor]]
    size_bytes: Callable[[Weights], int]
    is_applicable: Callable[[str, int], bool] = lambda arch, m: True
    is_by_row: bool = False
    """Whether its weights have a scale for each row."""


def cell(contender: Contender, weights: Weights, m: int) -> Cell:
    """Build, check and capture; AssertionError where the outputs are wrong."""
    weights = weights.by_row() if contender.is_by_row else weights
    launcher, (n, k) = weights.launcher, weights.shape
    generator = torch.Generator(launcher.device).manual_seed(m)
    x = torch.randn(m, k, generator=generator, device=launcher.device).half()
    calls, y = contender.products(weights, x)

    def all_copies() -> None:
        for call in calls:
            call()

    replay = launcher.capture(all_copies)
    y.fill_(float("nan"))
    replay()
    error = relative_error(weights, x, y)
    assert error <= contender.tolerance, (
        f"{contender.name} {weights.name} M={m}: relative error {error:.3g}, "
        f"at most {contender.tolerance:g}"
    )
    timed = Timed(
        run=replay,
        products=len(calls),
        moved_bytes=contender.size_bytes(weights) + 2 * m * (n + k),
        operations=2 * m * n * k,
    )
    return Cell(contender=contender.name, shape=weights.name, m=m, timed=timed, error=error)


def relative_error(weights: Weights, x: Tensor, y: Tensor) -> float:
    """|y - exact| / |exact| over the compared outputs; infinite where y is not finite."""
    rows, exact_weights = weights.compared()
    exact = x.double() @ exact_weights.T
    difference = y.index_select(1, rows).double() - exact
    error = float(difference.norm() / exact.norm())
    return error if np.isfinite(error) and bool(torch.isfinite(y).all()) else float("inf")


# ------------------------------------------------------------------------------------------- ours


def ours(kernel: str, *, name: str | None = None, overlap: bool = True) -> Contender:
    """A kernel of ours; `overlap`: it may begin before the product before it has ended."""
    run = PRODUCTS[kernel]

    def products(weights: Weights, x: Tensor) -> tuple[Sequence[Callable[[], object]], Tensor]:
        y = torch.empty(len(x), weights.shape[0], dtype=torch.float16, device=x.device)
        product = Product(x=x, y=y, overlap=overlap)
        return [_bound(run, one, product) for one in packed(weights)], y

    is_a8 = "a8" in kernel
    return Contender(
        name=name or kernel,
        op="w4a8" if is_a8 else "w4a16",
        tolerance=3e-2 if is_a8 else 2e-3,
        products=products,
        size_bytes=lambda weights: packed(weights)[0].size_bytes,
        is_applicable=lambda arch, m: is_applicable(kernel, arch, m),
    )


def ours_by_row(kernel: str) -> Contender:
    """A kernel of ours on weights whose rows have one scale each: integers of all of K."""
    return replace(ours(kernel, name=f"{kernel}, G = K"), is_by_row=True)


def packed(weights: Weights) -> list[GpuInt4]:
    """The copies that all our kernels share."""
    launcher = weights.launcher

    def again(first: GpuInt4) -> GpuInt4:
        return GpuInt4(launcher, first.data.clone(), first.shape, first.group, first.pair)

    def make() -> GpuInt4:
        return GpuInt4.pack(launcher, weights.tensor)

    return weights.copies("ours", make, again, weights.tensor.size_bytes)


def _bound(
    run: Callable[[GpuInt4, Product], None], weights: GpuInt4, product: Product
) -> Callable[[], object]:
    return lambda: run(weights, product)


# ------------------------------------------------------------------------------------------ torch


def fp16(library: str | None = None) -> Contender:
    """torch.mm in fp16: cuBLAS, or with a library named, that one."""

    def products(weights: Weights, x: Tensor) -> tuple[Sequence[Callable[[], object]], Tensor]:
        y = torch.empty(len(x), weights.shape[0], dtype=torch.float16, device=x.device)
        n, k = weights.shape
        copies = weights.copies("fp16", weights.dense, torch.clone, 2 * n * k)

        def call(weight: Tensor) -> Callable[[], object]:
            return lambda: _multiply(library, x, weight, y)

        return [call(one) for one in copies], y

    return Contender(
        name=FP16 if library is None else f"{FP16} ({library})",
        op="fp16",
        tolerance=2e-3,
        products=products,
        size_bytes=lambda weights: 2 * weights.shape[0] * weights.shape[1],
    )


def _multiply(library: str | None, x: Tensor, weight: Tensor, y: Tensor) -> None:
    if library is None:
        torch.mm(x, weight.T, out=y)
        return
    before = torch.backends.cuda.preferred_blas_library()
    torch.backends.cuda.preferred_blas_library(library)
    try:
        torch.mm(x, weight.T, out=y)
    finally:
        torch.backends.cuda.preferred_blas_library(before)
