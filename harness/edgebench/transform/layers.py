"""Pruning whole layers: those that change the hidden states least.

    BI_i = 1 - mean over tokens of cos(h_i, h_i+1)

Men et al., "ShortGPT: layers in large language models are more redundant than you expect", 2024:
block influence. All are scored on the whole model, then the lowest go at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgebench.errors import SpecError


def influence(before: Tensor, after: Tensor) -> float:
    """BI of a layer from hidden states [S, C] in front of it and behind it."""
    return 1.0 - float(F.cosine_similarity(before.double(), after.double(), dim=-1).mean())


def kept(influences: list[float], count: int) -> list[int]:
    """The layers that stay, in order; SpecError where none would."""
    if count >= len(influences):
        raise SpecError(
            f"[prune] expected layers to leave at least one of {len(influences)}, got {count}"
        )
    order = torch.argsort(torch.tensor(influences, dtype=torch.float64), stable=True)
    removed = set(order[:count].tolist())
    return [index for index in range(len(influences)) if index not in removed]
