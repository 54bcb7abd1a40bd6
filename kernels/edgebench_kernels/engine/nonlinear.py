"""What stands between the linears, in torch: RMSNorm with its residual add, SwiGLU, attention.

`native_step.NativeOps` computes the same; an engine takes one of the two for whatever linears it
has, so that fp16 and INT4 differ in their linears alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from edgebench_kernels.engine.attention import PromptAttention, PromptLayout, TokenAttention
from edgebench_kernels.engine.cache import KvCache
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.rope import Rotations

Attention = Callable[[int, Tensor], Tensor]
"""(layer, qkv f32 [S, (H + 2 kv_heads) D], overwritten) -> f32 [S, H D]."""


@dataclass(frozen=True, slots=True)
class NormWeight:
    """An RMSNorm's weight f32 [C], also times sqrt(C) as torch's formula wants it, [1, C]."""

    plain: Tensor
    scaled: Tensor

    @staticmethod
    def of(weight: Tensor) -> NormWeight:
        """From the checkpoint's tensor [C]."""
        plain = weight.float().contiguous()
        return NormWeight(plain, plain.mul(math.sqrt(len(plain)))[None])


class StepOps(Protocol):
    """The operations of a decoder that are not linears. What they return may be overwritten."""

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: NormWeight) -> Tensor:
        """x += delta in place, then RMSNorm(x), f32 [S, C]."""

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """f32 [S, 2 I] -> silu(gate) * up, f32 [S, I]."""

    def token_attention(self) -> Attention:
        """Takes the cache's next column; attends with one new token per row, layer by layer."""

    def prompt_attention(self, lengths: list[int]) -> Attention:
        """Attention of packed prompts to themselves; fills the cache, which was reset to them."""


class TorchOps:
    """StepOps for any machine."""

    def __init__(self, config: LlamaConfig, cache: KvCache, rotations: Rotations) -> None:
        self._config, self._cache, self._rotations = config, cache, rotations
        self._norm_floor = torch.tensor(math.sqrt(config.hidden_size * config.rms_norm_eps))

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: NormWeight) -> Tensor:
        """x * weight / sqrt(mean(x^2) + eps) as ||(x, sqrt(C eps))||: four small operations."""
        if delta is not None:
            x.add_(delta)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.mul(x, weight.scaled).div_(torch.hypot(norm, self._norm_floor))

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """See StepOps."""
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    def token_attention(self) -> Attention:
        """See StepOps."""
        return TokenAttention(self._config, self._cache, self._rotations)

    def prompt_attention(self, lengths: list[int]) -> Attention:
        """See StepOps."""
        layout = PromptLayout(lengths)
        return PromptAttention(self._config, self._cache, self._rotations, layout)
