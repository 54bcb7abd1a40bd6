"""Wanda: a weight counts by its size times the norm of the input that it multiplies.

    S_nk = |W_nk| ||X_k||_2          each output's own lowest go; nothing else is changed

Sun et al., "A simple and effective pruning approach for large language models", ICLR 2024, eq. 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench.transform.masks import keep_rows
from edgebench.transform.pruning import Pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanda:
    """See the module."""

    pattern: Pattern

    def learn(self, x: Tensor) -> Tensor:
        """The norm of every input, [K] of inputs [S, K]."""
        return x.square().sum(0).sqrt_()

    def pruned(self, weight: Tensor, learned: Tensor) -> Tensor:
        """The weight [N, K] with the lowest of every row set to zero."""
        keep = keep_rows(weight.abs() * learned, self.pattern)
        return torch.where(keep, weight, torch.zeros_like(weight))
