"""Rotary position embedding: the table of every position, and its application by torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.rope_config import RopeScaling


class Rotations:
    """cos and sin of every position below `length`, as torch applies them and as C reads them.

    Formula and order of fp32 operations are those of transformers' LlamaRotaryEmbedding.
    """

    def __init__(self, config: LlamaConfig, length: int) -> None:
        angles = torch.arange(length).float()[:, None] * frequencies_of(config)
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


def frequencies_of(config: LlamaConfig) -> Tensor:
    """Radians per position, f32 [D / 2]: transformers' formulas, operation for operation."""
    dim = config.head_dim
    exponents = torch.arange(0, dim, 2, dtype=torch.int64).float() / dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    return _as_llama3(frequencies, scaling)


def _as_llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves slowed by the factor, short ones kept, those between mixed.

    Source: transformers 5.24, modeling_rope_utils._compute_llama3_parameters.
    """
    low, high, length = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_length
    waves = 2 * math.pi / frequencies
    slowed = torch.where(waves > length / low, frequencies / scaling.factor, frequencies)
    share = (length / waves - low) / (high - low)
    mixed = (1 - share) * slowed / scaling.factor + share * slowed
    is_between = ~(waves < length / high) * ~(waves > length / low)
    return torch.where(is_between, mixed, slowed)


def rotate_(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """RoPE in place on f32 [S, H, D]; the halves of sin carry the signs (-, +)."""
    swapped = heads.roll(heads.shape[-1] // 2, -1)
    heads.mul_(cos).addcmul_(swapped, sin)
