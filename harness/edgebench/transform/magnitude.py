"""Magnitude pruning: the smallest weights go, of each tensor or of all tensors together.

Han et al., "Learning both weights and connections", NeurIPS 2015. Which of the two is meant differs
between repositories, so it has a name here: `scope`. N:M is local to its groups and has no scope.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgebench.transform.masks import keep_highest, keep_rows, removed_of
from edgebench.transform.pruning import Pattern, Scope


def pruned(weights: Mapping[str, Tensor], pattern: Pattern, scope: Scope) -> dict[str, Tensor]:
    """The same weights [N, K] with the smallest set to zero; no data is used."""
    if pattern.is_grouped:
        masks = {name: keep_rows(weight.abs(), pattern) for name, weight in weights.items()}
    elif scope == "tensor":
        masks = {name: _keep(weight.flatten(), pattern) for name, weight in weights.items()}
    else:
        every = _keep(torch.cat([weight.flatten() for weight in weights.values()]), pattern)
        parts = every.split([weight.numel() for weight in weights.values()])
        masks = dict(zip(weights, parts, strict=True))
    return {
        name: torch.where(masks[name].view_as(weight), weight, torch.zeros_like(weight))
        for name, weight in weights.items()
    }


def _keep(flat: Tensor, pattern: Pattern) -> Tensor:
    return keep_highest(flat.abs(), removed_of(flat.numel(), pattern.share))
