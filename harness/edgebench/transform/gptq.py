"""GPTQ: rounds column by column and lets the columns that follow make up for each error.

    H = X^T X / S     H <- H + damping mean(diag H) I     H^-1 = U^T U, U upper triangular
    e_c = (w_c - q_c) / U_cc          w_j <- w_j - e_c U_cj   for every later column j

Columns go in the order of falling diag H (act-order), on grids that were fixed before (static
groups), so that nothing has to be permuted when the model runs. Diagonals are compared in
ORDER_STEPS to a doubling, equal ones by place: sums that were added in another order, or columns
that are copies of each other, then change no order, and a verifier finds the same. A dead column
(its input is always 0) is rounded to nearest, where others set it to 0: no weight is dropped.
Frantar et al., "GPTQ", ICLR 2023, algorithm 1; IST-DASLab/gptq gptq.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench.errors import RunFailed
from edgebench.transform.constants import ORDER_STEPS
from edgebench.transform.grid import Grid

BLOCK_COLUMNS = 128  # gptq.py blocksize: the columns whose errors are added to the rest at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The order of the columns [K], and U [K, K] of the columns in that order."""

    order: Tensor
    upper: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Gptq:
    """See the module."""

    damping: float = 0.01  # gptq.py percdamp
    act_order: bool = True

    def learn(self, x: Tensor) -> Learned:
        """What inputs [S, K] say, for every linear that reads them; in their dtype."""
        hessian = (x.T @ x).div_(x.shape[0])
        order = self._order(hessian)
        upper = inverse_factor(hessian[order[:, None], order], self.damping)
        return Learned(order=order, upper=upper)

    def codes(self, weight: Tensor, grid: Grid, learned: Learned) -> Tensor:
        """Codes uint8 [N, K] of weight [N, K] on fixed grids; computed in the weight's dtype."""
        order, upper = learned.order, learned.upper
        scale, zero = (part.T[order].to(weight.dtype) for part in grid.columns(weight.shape[1]))
        codes = _walk_columns(weight.T[order], upper, scale, zero, grid.form.levels)
        out = torch.empty_like(codes)
        out[order] = codes
        return out.T.contiguous()

    def _order(self, hessian: Tensor) -> Tensor:
        if not self.act_order:
            return torch.arange(hessian.shape[0], device=hessian.device)
        steps = hessian.diagonal().double().log2().mul_(ORDER_STEPS).round_()
        return torch.argsort(steps, descending=True, stable=True)


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """U, upper triangular, with U^T U = (H + damping)^-1; RunFailed where H is not positive.

    H = R R^T with R upper triangular is a Cholesky factor read backwards, and U = R^-1: one
    factorization and one triangular inverse, no H^-1 in between.
    """
    damped = hessian.flip(0, 1)
    diagonal = damped.diagonal()  # a view
    diagonal[diagonal == 0] = 1
    diagonal += damping * diagonal.mean()
    lower, failed = torch.linalg.cholesky_ex(damped)
    del damped  # for K = 12,288 each of these takes 0.6 GB
    if int(failed) != 0 or not bool(torch.isfinite(lower).all()):
        raise RunFailed(
            "[gptq] expected a positive definite Hessian, got one that has no Cholesky factor; "
            f"raise the damping (now {damping:g})"
        )
    right = lower.flip(0, 1)
    del lower
    eye = torch.eye(len(right), dtype=right.dtype, device=right.device)
    return torch.linalg.solve_triangular(right, eye, upper=True)


def _walk_columns(
    columns: Tensor, upper: Tensor, scale: Tensor, zero: Tensor, levels: int
) -> Tensor:
    """Codes uint8 of columns [K, N], which come transposed so that each lies in one piece."""
    columns = columns.contiguous()
    codes = torch.empty(columns.shape, dtype=torch.uint8, device=columns.device)
    errors = torch.empty_like(columns[:BLOCK_COLUMNS])
    for first in range(0, len(columns), BLOCK_COLUMNS):
        last = min(len(columns), first + BLOCK_COLUMNS)
        for c in range(first, last):
            code = (columns[c] / scale[c]).round_().add_(zero[c]).clamp_(0, levels)
            codes[c] = code.to(torch.uint8)
            error = (columns[c] - code.sub_(zero[c]).mul_(scale[c])).div_(upper[c, c])
            columns[c + 1 : last].addr_(upper[c, c + 1 : last], error, alpha=-1)
            errors[c - first] = error
        columns[last:].addmm_(upper[first:last, last:].T, errors[: last - first], alpha=-1)
    return codes
