"""Causal attention over the static cache, of whole prompts or of one new token per row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgebench_kernels.engine.cache import KvCache
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.rope import Rotations, rotate_

SDPA_MAX_BATCH = 4
"""Decode rows up to which torch's fused attention beats two batched products (Zen 5, 2 threads,
24 to 100 columns: 9-12 us against 13-15 us at B=1, 137-360 us against 72-175 us at B=64)."""


class PromptLayout:
    """Where the tokens of prompts of different length sit, packed (no padding) and padded.

    Linears run on packed rows [S, ...] with S = sum of the lengths, so padding costs no
    multiplication; attention runs on right-aligned [B, T] rows.
    """

    def __init__(self, lengths: list[int]) -> None:
        self.batch, self.width = len(lengths), max(lengths)
        columns = torch.arange(self.width)
        starts = torch.tensor([self.width - length for length in lengths])
        self.positions = torch.cat([columns[:length] for length in lengths])
        self.slots: Tensor | None = None
        self.mask: Tensor | None = None
        if min(lengths) < self.width:
            is_real = columns >= starts[:, None]
            self.slots = is_real.flatten().nonzero().flatten()
            seen = (columns[:, None] >= columns) & is_real[:, None, :]
            # A padding query must see something, else its softmax is 0/0: it sees itself.
            seen |= torch.eye(self.width, dtype=torch.bool)
            self.mask = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)[:, None]

    def padded(self, packed: Tensor) -> Tensor:
        """[S, X] -> [B, T, X], zeros on the padding."""
        if self.slots is None:
            return packed.view(self.batch, self.width, -1)
        rows = packed.new_zeros(self.batch * self.width, packed.shape[-1])
        return rows.index_copy_(0, self.slots, packed).view(self.batch, self.width, -1)

    def packed(self, padded: Tensor) -> Tensor:
        """[B, T, X] -> [S, X]."""
        rows = padded.reshape(self.batch * self.width, -1)
        return rows if self.slots is None else rows.index_select(0, self.slots)


class PromptAttention:
    """Attention of whole prompts to themselves; fills the cache."""

    def __init__(
        self, config: LlamaConfig, cache: KvCache, rotations: Rotations, layout: PromptLayout
    ) -> None:
        self._config, self._cache, self._layout = config, cache, layout
        self._cos, self._sin = rotations.at(layout.positions)

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        """q, k (both rotated here, in place) and v, f32 [S, (H + 2 kv_heads) D] -> [S, H D]."""
        config = self._config
        heads = qkv.view(-1, config.qkv_heads, config.head_dim)
        rotate_(heads.narrow(1, 0, config.heads + config.kv_heads), self._cos, self._sin)
        rows = self._layout.padded(qkv).unflatten(-1, (-1, config.head_dim))
        split = [config.heads, config.kv_heads, config.kv_heads]
        query, key, value = rows.transpose(1, 2).split(split, dim=1)
        self._cache.write_prompts(layer, key, value)
        mask = self._layout.mask
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return self._layout.packed(mixed.transpose(1, 2).flatten(2))


class TokenAttention:
    """Attention of one new token per row to everything cached before it, by torch."""

    def __init__(self, config: LlamaConfig, cache: KvCache, rotations: Rotations) -> None:
        self._config, self._cache = config, cache
        cache.advance()
        self._cos, self._sin = rotations.at(cache.last_positions())
        self._scale = config.head_dim**-0.5
        self._is_fused = cache.batch <= SDPA_MAX_BATCH
        mask = cache.mask()
        if mask is not None:
            mask = mask[:, :1, None] if self._is_fused else mask.flatten(0, 1)[:, None]
        self._mask = mask

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        """q, k (both rotated here, in place) and v, f32 [B, (H + 2 kv_heads) D] -> [B, H D]."""
        config, batch = self._config, qkv.shape[0]
        heads = qkv.view(batch, config.qkv_heads, config.head_dim)
        rotate_(heads.narrow(1, 0, config.heads + config.kv_heads), self._cos, self._sin)
        new = heads.narrow(1, config.heads, 2 * config.kv_heads)
        new = new.view(batch, 2, config.kv_heads, config.head_dim).transpose(0, 1)
        keys, values = self._cache.append(layer, new)
        query = heads.narrow(1, 0, config.heads)
        if self._is_fused:
            mixed = F.scaled_dot_product_attention(
                query.unsqueeze(2), keys, values, attn_mask=self._mask, enable_gqa=True
            )
            return mixed.reshape(batch, -1)
        grouped = query.reshape(batch * config.kv_heads, -1, config.head_dim)
        keys, values = keys.flatten(0, 1).transpose(1, 2), values.flatten(0, 1)
        if self._mask is None:
            scores = torch.bmm(grouped, keys).mul_(self._scale)
        else:
            scores = torch.baddbmm(self._mask, grouped, keys, alpha=self._scale)
        return torch.bmm(scores.softmax(-1), values).view(batch, -1)
