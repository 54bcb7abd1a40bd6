"""Rotary position embedding: the table of every position, and its application by torch."""

from __future__ import annotations

import torch
from torch import Tensor

from edgebench_kernels.engine.config import LlamaConfig


class Rotations:
    """cos and sin of every position below `length`, as torch applies them and as C reads them.

    Formula and order of fp32 operations are those of transformers' LlamaRotaryEmbedding.
    """

    def __init__(self, config: LlamaConfig, length: int) -> None:
        dim = config.head_dim
        exponents = torch.arange(0, dim, 2, dtype=torch.int64).float() / dim
        frequencies = 1.0 / (config.rope_theta**exponents)
        angles = torch.arange(length).float()[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        signed = torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)], dim=1)
        self._signed = signed[:, :, None]
        self.halves = torch.stack([cos, sin], dim=1).contiguous()
        """cos and sin of the half head, f32 [length, 2, D / 2]."""

    def at(self, positions: Tensor | int) -> tuple[Tensor, Tensor]:
        """cos and signed sin, each f32 [S or 1, 1, D]."""
        if isinstance(positions, int):
            return self._signed[positions].unbind(0)
        return self._signed.index_select(0, positions).unbind(1)


def rotate_(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """RoPE in place on f32 [S, H, D]; the halves of sin carry the signs (-, +)."""
    swapped = heads.roll(heads.shape[-1] // 2, -1)
    heads.mul_(cos).addcmul_(swapped, sin)
