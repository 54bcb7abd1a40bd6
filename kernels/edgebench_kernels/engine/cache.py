"""The static KV cache: one preallocated tensor that prefill and decode write in place.

Rows are right-aligned: the last token of every prompt sits in the same column, so a decode step
writes one column for the whole batch and shorter prompts have masked columns on their left. It
holds fp32: what is attended to is exactly what was computed, which keeps logits equal to those of
`transformers` in fp32. The price, 8 bytes x kv_size x layers per token, is small beside the weights
for the lengths a benchmark decodes; untouched columns are never backed by memory (the system
zeroes them on first use).
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgebench_kernels.engine.config import LlamaConfig


class KvCache:
    """Keys and values f32 [layers, 2, B, kv_heads, T, D], B <= max_batch and T <= max_length."""

    def __init__(self, config: LlamaConfig, max_batch: int, max_length: int) -> None:
        self.max_batch = max_batch
        self.max_length = max_length
        self._kv_heads = config.kv_heads
        shape = (config.layers, 2, max_batch, config.kv_heads, max_length, config.head_dim)
        self._store = torch.zeros(shape, dtype=torch.float32)
        self._mask_store = torch.zeros(
            (max_batch, config.kv_heads, max_length), dtype=torch.float32
        )
        self._starts: list[int] = []
        self._start_column: Tensor | None = None
        self._bind(0)
        self.length = 0

    @property
    def batch(self) -> int:
        """Rows in use."""
        return self._batch

    def reset(self, lengths: list[int]) -> None:
        """Begin new rows whose prompts have these lengths; the cache's length is the longest."""
        self.length = max(lengths)
        self._starts = [self.length - length for length in lengths]
        self._bind(len(lengths))
        self._mask_store[: self.batch] = 0.0
        for row, start in enumerate(self._starts):
            self._mask_store[row, :, :start] = -torch.inf

    def write_prompts(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store a prefill's keys and values, each f32 [B, kv_heads, T, D], right-aligned."""
        self._active[layer, 0, :, :, : self.length].copy_(keys)
        self._active[layer, 1, :, :, : self.length].copy_(values)

    def advance(self) -> tuple[list[Tensor], list[Tensor]]:
        """Take the next column: per layer, where it is written and what is then attended to.

        Returns (slots, windows): a slot is f32 [2, B, kv_heads, D] (keys, values), a window
        f32 [2, B, kv_heads, length, D] that includes the new column. Raises ValueError when full.
        """
        if self.length >= self.max_length:
            raise ValueError(f"[engine] the KV cache is full: max_length={self.max_length}")
        slots = self._active.select(4, self.length)
        self.length += 1
        windows = self._active.narrow(4, 0, self.length)
        return list(slots.unbind(0)), list(windows.unbind(0))

    def last_positions(self) -> Tensor | int:
        """RoPE position of the newest column: one number if all rows agree, else int64 [B]."""
        if self._start_column is None:
            return self.length - 1
        return self.length - 1 - self._start_column

    def mask(self) -> Tensor | None:
        """Additive mask f32 [B, kv_heads, length] over the columns, None if nothing is masked."""
        if self._start_column is None:
            return None
        return self._mask_store[: self.batch, :, : self.length]

    def keep(self, rows: list[int]) -> list[int]:
        """Drop every row not listed; returns the kept rows in their new order.

        Holes are filled from the end, so the cost is what moved, not what stayed.
        """
        count = len(rows)
        kept = set(rows)
        holes = [row for row in range(count) if row not in kept]
        moved = [row for row in rows if row >= count]
        if moved:
            target, source = torch.tensor(holes), torch.tensor(moved)
            used = self._store[..., : self.length, :]
            used[:, :, target] = used[:, :, source]
            self._mask_store[target] = self._mask_store[source]
        order = list(range(count))
        for hole, row in zip(holes, moved, strict=True):
            order[hole] = row
        self._starts = [self._starts[row] for row in order]
        self._bind(count)
        return order

    def _bind(self, batch: int) -> None:
        self._batch = batch
        self._active = self._store[:, :, :batch]
        is_padded = any(self._starts)
        self._start_column = torch.tensor(self._starts) if is_padded else None
