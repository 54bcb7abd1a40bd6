"""SparseGPT: prunes column by column and lets the columns that follow make up for it.

    H = X^T X / S     H <- H + damping mean(diag H) I     H^-1 = U^T U, U upper triangular
    S_nc = (W_nc / U_cc)^2   e_c = (w_c - pruned w_c) / U_cc   w_j <- w_j - e_c U_cj for j > c

A share is chosen block by block of BLOCK_COLUMNS columns, over all rows together; N:M is chosen
when its first column is reached, from the weights as they are by then. A column whose input is
always 0 scores 0. Frantar and Alistarh, "SparseGPT", ICML 2023, algorithm 1; IST-DASLab/sparsegpt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench.transform.gptq import inverse_factor
from edgebench.transform.masks import check_width, keep_highest, removed_of
from edgebench.transform.pruning import DEFAULT_DAMPING, Pattern

BLOCK_COLUMNS = 128  # sparsegpt.py blocksize; a multiple of every pattern's width


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """U [K, K], and which inputs are always 0, bool [K]."""

    upper: Tensor
    dead: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseGpt:
    """See the module."""

    pattern: Pattern
    damping: float = DEFAULT_DAMPING

    def learn(self, x: Tensor) -> Factor:
        """What inputs [S, K] say, for every linear that reads them; in their dtype."""
        hessian = (x.T @ x).div_(x.shape[0])
        dead = hessian.diagonal() == 0
        return Factor(upper=inverse_factor(hessian, self.damping), dead=dead)

    def pruned(self, weight: Tensor, learned: Factor) -> Tensor:
        """The weight [N, K], pruned and made up for; computed in its dtype."""
        columns = weight.T.clone(memory_format=torch.contiguous_format)
        upper = learned.upper
        if self.pattern.is_grouped:
            check_width(len(columns), self.pattern)
        for first in range(0, len(columns), BLOCK_COLUMNS):
            last = min(len(columns), first + BLOCK_COLUMNS)
            errors = self._block(columns, learned, first, last)
            columns[last:].addmm_(upper[first:last, last:].T, errors, alpha=-1)
        return columns.T.contiguous()

    def _block(self, columns: Tensor, learned: Factor, first: int, last: int) -> Tensor:
        """Prune columns first..last of [K, N] in place; returns their errors [last - first, N]."""
        upper, pattern = learned.upper, self.pattern
        keep = torch.ones_like(columns[first:last], dtype=torch.bool)
        if not pattern.is_grouped:
            score = self._score(columns, learned, first, last)
            removed = removed_of(score.numel(), pattern.share)
            keep = keep_highest(score.T.flatten(), removed).view(score.T.shape).T
        errors = torch.zeros_like(columns[first:last])
        for c in range(first, last):
            place = c - first
            if pattern.is_grouped and place % pattern.width == 0:
                score = self._score(columns, learned, c, c + pattern.width)
                kept = keep_highest(score.T, pattern.width - pattern.kept)
                keep[place : place + pattern.width] = kept.T
            stays = torch.where(keep[place], columns[c], torch.zeros_like(columns[c]))
            errors[place] = (columns[c] - stays) / upper[c, c]
            columns[c] = stays
            columns[c + 1 : last].addr_(upper[c, c + 1 : last], errors[place], alpha=-1)
        return errors

    @staticmethod
    def _score(columns: Tensor, learned: Factor, first: int, last: int) -> Tensor:
        """(W / U_cc)^2 of some columns, [columns, N]."""
        score = (columns[first:last] / learned.upper.diagonal()[first:last, None]).square_()
        score[learned.dead[first:last]] = 0
        return score
