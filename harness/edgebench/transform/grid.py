"""Group grids in torch: the arithmetic of `edgebench_kernels.quantize`, on any device.

    lo = min(w, 0)   hi = max(w, 0)   s = fp16((hi - lo) / L)   z = round(-lo / s)   L = 2^bits - 1
    code = clamp(round(w / s) + z, 0, L)

Symmetric: s = fp16(2 max|w| / L), z = 2^(bits - 1). Ties go to the even neighbour, and the scale is
rounded to fp16 before any code is computed; on float32 the bits are those of `quantize_rtn`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgebench.errors import SpecError
from edgebench.transform.constants import SMALLEST_GRID_SCALE
from edgebench_kernels.formats import Int4Tensor, check_group, choose_group, pack_codes

LARGEST_SCALE = 65504.0  # largest fp16
CHUNK_WEIGHTS = 1 << 19  # rounded at a time: 2 MB of float32 stay in a core's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class GridForm:
    """What grids look like, whatever the weights."""

    group: int | None = 128
    """None: one group per row. Where it does not divide K, a smaller one is taken."""
    bits: int = 4
    symmetric: bool = False

    def group_of(self, k: int) -> int:
        """The group size for rows of K weights; SpecError where none fits."""
        try:
            group = k if self.group is None else self.group
            fitting = group if k % group == 0 else choose_group(k)
            check_group(k, fitting, where="transform")
        except ValueError as err:
            raise SpecError(str(err)) from err
        return fitting

    @property
    def levels(self) -> int:
        """The largest code."""
        return int(2**self.bits - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The grids of one weight [N, K]: scale fp16 [N, K/G], zero uint8 [N, K/G]."""

    scale: Tensor
    zero: Tensor
    form: GridForm

    def rows(self, part: slice) -> Grid:
        """The grids of some rows."""
        return Grid(scale=self.scale[part], zero=self.zero[part], form=self.form)

    def columns(self, k: int) -> tuple[Tensor, Tensor]:
        """Scale and zero of every column, in float32 [N, K]."""
        group = k // self.scale.shape[1]
        return (
            self.scale.float().repeat_interleave(group, dim=1),
            self.zero.float().repeat_interleave(group, dim=1),
        )


def check_weight(name: str, weight: Tensor) -> None:
    """Raise SpecError unless a weight is [N, K] and finite."""
    if weight.dim() != 2:
        raise SpecError(f"[transform] expected {name} to be [N, K], got {list(weight.shape)}")
    if not bool(torch.isfinite(weight).all()):
        raise SpecError(f"[transform] expected finite weights in {name}, got NaN or infinity")


def fit_grid(weight: Tensor, form: GridForm) -> Grid:
    """The grids that span each group of weight [N, K]; SpecError where a scale exceeds fp16."""
    grouped = _grouped(weight, form)
    low, high = torch.aminmax(grouped, dim=2)
    low, high = low.clamp_(max=0), high.clamp_(min=0)
    if form.symmetric:
        exact = torch.maximum(-low, high) / (form.levels / 2)
    else:
        exact = high / form.levels - low / form.levels
    if not bool((exact <= LARGEST_SCALE).all()):
        raise SpecError(
            f"[transform] expected scales that fit in fp16 (<= {LARGEST_SCALE:g}), got "
            f"{float(exact.max()):g}; the weights are too large or not finite"
        )
    scale = exact.half()
    scale = torch.where(scale == 0, torch.full_like(scale, SMALLEST_GRID_SCALE), scale)
    if form.symmetric:
        zero = torch.full_like(scale, 2 ** (form.bits - 1), dtype=torch.uint8)
    else:
        zero = (-low / scale.to(low.dtype)).round_().clamp_(0, form.levels).to(torch.uint8)
    return Grid(scale=scale, zero=zero, form=form)


def nearest_codes(weight: Tensor, grid: Grid) -> Tensor:
    """The nearest code of every weight on given grids, uint8 [N, K]."""
    return _codes(weight, grid).to(torch.uint8).view(weight.shape)


def values_of(codes: Tensor, grid: Grid) -> Tensor:
    """What codes [N, K] stand for, float32 [N, K]."""
    grouped = codes.float().view(codes.shape[0], grid.scale.shape[1], -1)
    return _values(grouped, grid).view(codes.shape)


def rounded(weight: Tensor, form: GridForm) -> Tensor:
    """The weights [N, K] after a round trip through their own grids, in their own dtype."""
    grid = fit_grid(weight, form)
    return _values(_codes(weight, grid), grid).view(weight.shape)


def to_int4(codes: Tensor, grid: Grid) -> Int4Tensor:
    """The canonical tensor of codes uint8 [N, K]."""
    return Int4Tensor(
        qweight=pack_codes(np.ascontiguousarray(codes.cpu().numpy())),
        scale=grid.scale.cpu().numpy(),
        zero=grid.zero.cpu().numpy(),
        group=codes.shape[1] // grid.scale.shape[1],
    )


def row_chunks(weight: Tensor) -> list[slice]:
    """Slices of rows of a weight [N, K] that are small enough for a cache."""
    n, k = weight.shape
    step = max(1, CHUNK_WEIGHTS // k)
    return [slice(first, min(n, first + step)) for first in range(0, n, step)]


def _grouped(weight: Tensor, form: GridForm) -> Tensor:
    n, k = weight.shape
    return weight.view(n, -1, form.group_of(k))


def _codes(weight: Tensor, grid: Grid) -> Tensor:
    """Codes in the weight's dtype, [N, K/G, G]."""
    grouped = weight.view(weight.shape[0], grid.scale.shape[1], -1)
    codes = grouped / grid.scale.to(weight.dtype)[:, :, None]
    codes.round_().add_(grid.zero.to(weight.dtype)[:, :, None])
    return codes.clamp_(0, grid.form.levels)


def _values(codes: Tensor, grid: Grid) -> Tensor:
    codes = codes.sub_(grid.zero.to(codes.dtype)[:, :, None])
    return codes.mul_(grid.scale.to(codes.dtype)[:, :, None])
