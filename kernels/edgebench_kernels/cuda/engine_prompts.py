"""Attention of whole prompts to themselves on a GPU: our rotation and cache, torch's attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgebench_kernels.cuda.step_kernels import StepKernels
from edgebench_kernels.engine.config import LlamaConfig


class PromptAttention:
    """Attention of prompts whose tokens lie one after the other, [S, ...] in all.

    Linears run on these packed rows; attention runs on rows padded at their right, where a causal
    mask alone keeps the padding away from every real token.
    """

    def __init__(
        self,
        config: LlamaConfig,
        kernels: StepKernels,
        lengths: Sequence[int],
        device: torch.device,
    ) -> None:
        self._config, self._kernels = config, kernels
        self._batch, self._width = len(lengths), max(lengths)
        count = torch.tensor(lengths)
        rows = torch.repeat_interleave(torch.arange(self._batch), count)
        firsts = torch.repeat_interleave(count.cumsum(0) - count, count)
        columns = torch.arange(len(rows)) - firsts
        self._rows = rows.to(torch.int32).to(device)
        self._columns = columns.to(torch.int32).to(device)
        is_padded = len(rows) < self._batch * self._width
        self._slots = (rows * self._width + columns).to(device) if is_padded else None
        self.last = (count.cumsum(0) - 1).to(device)
        """The packed place of each prompt's last token."""

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        """q, k (rotated here, in place) and v, fp16 [S, (H + 2 kv_heads) D] -> fp16 [S, H D]."""
        config = self._config
        self._kernels.rope_append(layer, qkv, self._rows, self._columns)
        heads = self._padded(qkv).view(self._batch, self._width, -1, config.head_dim)
        split = [config.heads, config.kv_heads, config.kv_heads]
        query, key, value = heads.transpose(1, 2).split(split, dim=1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return self._packed(mixed.transpose(1, 2).reshape(self._batch * self._width, -1))

    def _padded(self, packed: Tensor) -> Tensor:
        """[S, X] -> [B T, X], zeros on the padding."""
        if self._slots is None:
            return packed
        rows = packed.new_zeros(self._batch * self._width, packed.shape[-1])
        return rows.index_copy_(0, self._slots, packed)

    def _packed(self, padded: Tensor) -> Tensor:
        """[B T, X] -> [S, X]."""
        return padded if self._slots is None else padded.index_select(0, self._slots)
