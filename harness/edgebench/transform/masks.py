"""Which weights stay: the lowest scores go, by share or N:M along K; ties go to the first."""

from __future__ import annotations

import torch
from torch import Tensor

from edgebench.errors import SpecError
from edgebench.transform.pruning import Pattern


def keep_rows(score: Tensor, pattern: Pattern) -> Tensor:
    """True where a weight stays, bool [N, K]: each row, or each group of a row, by itself."""
    n, k = score.shape
    if not pattern.is_grouped:
        return keep_highest(score, removed_of(k, pattern.share))
    check_width(k, pattern)
    grouped = score.reshape(n, k // pattern.width, pattern.width)
    return keep_highest(grouped, pattern.width - pattern.kept).view(n, k)


def keep_highest(score: Tensor, removed: int) -> Tensor:
    """True for all but the `removed` lowest of the last dimension; the earlier of equals goes."""
    lowest = torch.argsort(score, dim=-1, stable=True)[..., :removed]
    return torch.ones_like(score, dtype=torch.bool).scatter_(-1, lowest, False)


def removed_of(count: int, share: float) -> int:
    """How many of `count` weights a share removes; SpecError where that is none or all."""
    removed = round(count * share)
    if not 0 < removed < count:
        raise SpecError(
            f"[prune] expected a share that removes some of {count} weights and leaves some, got "
            f"{share:g}, which removes {removed}"
        )
    return removed


def check_width(k: int, pattern: Pattern) -> None:
    """SpecError where N:M does not divide K."""
    if k % pattern.width:
        raise SpecError(
            f"[prune] expected rows whose length is a multiple of {pattern.width} for {pattern}, "
            f"got K={k}; use a share"
        )
