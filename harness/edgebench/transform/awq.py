"""AWQ: scales salient channels up before rounding, then clips each group's range.

    s = mean|x|^r / sqrt(max s min s)      r in {0, 1/20, ..., 19/20}
    r* = argmin || Q(W s) (x / s) - W x ||^2      (the readers of one input share s)

then per row and group the largest |w| that the grid spans is shortened by i/20, i in 0..9, to
where the error of the group's partial sums is least (not for q and k). Everything is searched on
unquantized activations and weights, all groups of a layer before any is folded.
Lin et al., "AWQ", MLSys 2024, eq. 4 and 5; the constants are those of llm-awq's auto_scale.py and
auto_clip.py. Where that compares whole attention and MLP blocks, this compares the linears'
outputs, as the paper's formula does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench.transform.constants import (
    AWQ_EXPONENT_STEPS,
    AWQ_SMALLEST_SCALE,
    CLIP_SHRINKS,
    NOT_CLIPPED,
)
from edgebench.transform.fold import Choice, GroupView, settled, shared
from edgebench.transform.grid import Grid, GridForm, fit_grid, rounded, row_chunks
from edgebench.transform.scale_groups import ScaleGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Awq:
    """See the module; `clip` may be left out."""

    clip: bool = True

    def handles(self, group: ScaleGroup) -> bool:
        """Every group of a layer, and the one of lm_head."""
        return True

    def search(self, view: GroupView) -> Choice:
        """The scales of least output error; r = 0, which changes nothing, is the first tried."""
        magnitude = shared(view.x.abs().mean(0), view.group, view.layer)
        sample, weights = view.sample(), view.weights
        best: tuple[float, Choice] | None = None
        for step in range(AWQ_EXPONENT_STEPS):
            exponent = step / AWQ_EXPONENT_STEPS
            scale = settled(candidate(magnitude, exponent), view.norm)
            error = sum(scaled_error(weight, scale, sample, view.form) for weight in weights)
            if best is None or error < best[0]:
                best = error, Choice(scale=scale, exponent=exponent)
        assert best is not None
        return best[1]

    def grid(self, name: str, weight: Tensor, x: Tensor, form: GridForm) -> Grid:
        """The grids of a folded weight [N, K] whose folded input is x [S, K]."""
        if not self.clip or name in NOT_CLIPPED:
            return fit_grid(weight, form)
        return clipped_grid(weight, x, form)


def candidate(magnitude: Tensor, exponent: float) -> Tensor:
    """The scales [K] of one exponent from mean|x| [K], their extremes balanced around 1."""
    scale = magnitude.pow(exponent).clamp_(min=AWQ_SMALLEST_SCALE)
    return scale / (scale.max() * scale.min()).sqrt()


def scaled_error(weight: Tensor, scale: Tensor, x: Tensor, form: GridForm) -> float:
    """Sum over tokens and outputs of the squared error that rounding weight * scale makes."""
    total = 0.0
    for part in row_chunks(weight):
        change = rounded(weight[part] * scale, form).div_(scale).sub_(weight[part])
        total += float((x @ change.T).square_().sum(dtype=torch.float64))
    return total


def clipped_grid(weight: Tensor, x: Tensor, form: GridForm) -> Grid:
    """The grids of least error in each group's partial sums, over all tokens.

    That error is d^T (X_g^T X_g) d for a row's change d in group g, so tokens need no second look.
    """
    group = form.group_of(weight.shape[1])
    inputs = x.view(x.shape[0], -1, group).transpose(0, 1)  # [K/G, S, G]
    gram = inputs.transpose(1, 2) @ inputs  # [K/G, G, G]
    parts = [_clip_rows(weight[part], gram, form) for part in row_chunks(weight)]
    return fit_grid(torch.cat(parts), form)


def _clip_rows(weight: Tensor, gram: Tensor, form: GridForm) -> Tensor:
    """Rows [n, K], each group clamped at its best limit."""
    grouped = weight.view(weight.shape[0], gram.shape[0], -1)
    largest = grouped.abs().amax(2, keepdim=True)
    best_limit, best_error = largest, None
    for shrink in CLIP_SHRINKS:
        limit = largest * shrink
        clamped = grouped.clamp(-limit, limit)
        change = rounded(clamped.view(weight.shape), form).view(grouped.shape).sub_(grouped)
        columns = change.transpose(0, 1)  # [K/G, n, G]
        error = (columns @ gram).mul_(columns).sum(2).T[:, :, None]
        if best_error is None:
            best_error = error
            continue
        is_better = error < best_error
        best_limit = torch.where(is_better, limit, best_limit)
        best_error = torch.where(is_better, error, best_error)
    return grouped.clamp(-best_limit, best_limit).view(weight.shape)
