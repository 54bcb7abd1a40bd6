"""SmoothQuant: moves activation outliers into the weights, so that 8 bits per token suffice.

    s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)      over the tokens, and over all readers' rows

for the linears behind a norm; o_proj and down_proj are left as they are. A given alpha holds for
every group; a searched one is, group by group, that of least output error among 0, 1/20, ..., 1,
with inputs and weights rounded as the path has them: for W8A8 both to 8 bits, per token and per
row; for w4a8 weights to 4 bits in groups, and inputs to 8 bits per token and group of inputs.
Xiao et al., "SmoothQuant", ICML 2023, eq. 4; smoothquant/smooth.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from edgebench.transform.constants import ALPHA_STEPS, SMALLEST_MAXIMUM
from edgebench.transform.fold import Choice, GroupView, settled
from edgebench.transform.grid import Grid, GridForm, fit_grid, rounded, row_chunks
from edgebench.transform.scale_groups import ScaleGroup

INT8_MAX = 127  # both of the paper and of the kernels' w4a8 path


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothQuant:
    """See the module; alpha None is searched."""

    alpha: float | None = None
    path: Literal["w4a8", "w8a8"] = "w4a8"

    def handles(self, group: ScaleGroup) -> bool:
        """Only what a norm feeds, as in the paper."""
        return group.feeder_is_norm

    def search(self, view: GroupView) -> Choice:
        """The scales of the given alpha, or of the best."""
        if self.alpha is not None:
            scale = settled(candidate(view.x, view.weights, self.alpha), view.norm)
            return Choice(scale=scale, exponent=self.alpha)
        sample = view.sample()
        best: tuple[float, Choice] | None = None
        for step in range(ALPHA_STEPS + 1):
            alpha = step / ALPHA_STEPS
            scale = settled(candidate(view.x, view.weights, alpha), view.norm)
            error = sum(self._error(weight, scale, sample, view.form) for weight in view.weights)
            if best is None or error < best[0]:
                best = error, Choice(scale=scale, exponent=alpha)
        assert best is not None
        return best[1]

    def grid(self, name: str, weight: Tensor, x: Tensor, form: GridForm) -> Grid:
        """The grids that span the folded weight."""
        return fit_grid(weight, form)

    def _error(self, weight: Tensor, scale: Tensor, x: Tensor, form: GridForm) -> float:
        is_w4 = self.path == "w4a8"
        k = weight.shape[1]
        rough = int8_blocks(x / scale, form.group_of(k) if is_w4 else k)
        total = 0.0
        for part in row_chunks(weight):
            scaled = weight[part] * scale
            coarse = rounded(scaled, form) if is_w4 else int8_blocks(scaled, k)
            change = (rough @ coarse.T).sub_(x @ weight[part].T)
            total += float(change.square_().sum(dtype=torch.float64))
        return total


def candidate(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    """The scales [K] of one alpha."""
    largest_x = x.abs().amax(0).clamp_(min=SMALLEST_MAXIMUM)
    largest_w = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
    return largest_x.pow(alpha) / largest_w.clamp_(min=SMALLEST_MAXIMUM).pow(1 - alpha)


def int8_blocks(x: Tensor, block: int) -> Tensor:
    """Rows [S, K] after a round trip through 8 bits; each block has the scale max|x| / 127."""
    grouped = x.view(x.shape[0], -1, block)
    scale = grouped.abs().amax(2, keepdim=True) / INT8_MAX
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (grouped / scale).round_().clamp_(-INT8_MAX, INT8_MAX).mul_(scale).view(x.shape)
