"""The static KV cache: one preallocated tensor that prefill and decode write in place.

Rows are right-aligned: the last token of every prompt sits in the same column, so a decode step
writes one column for the whole batch and shorter prompts have masked columns on their left.

Cells are fp16 unless another type is asked for: half the bytes of fp32, which is for comparisons
with `transformers` in fp32. int8 cells carry one scale per column and head: a quarter of the bytes,
with |x - code * scale| <= scale / 2 = peak / 254. Untouched columns are never backed by memory (the
system zeroes them on first use).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from edgebench_kernels.engine.config import LlamaConfig

CacheCell = Literal["fp32", "fp16", "int8"]
_TORCH = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}
_LEVELS = 127.0
_SMALLEST_PEAK = 1e-30  # as in csrc/cpu/step_lanes.h


class KvCache:
    """Keys and values [layers, 2, B, kv_heads, T, D], B <= max_batch and T <= max_length.

    `store` holds the cells, `scales` f32 [layers, 2, B, kv_heads, T] the scales of int8 cells (None
    for others) and `starts` int32 [B] the column of each row's first token.
    """

    def __init__(
        self, config: LlamaConfig, max_batch: int, max_length: int, cell: CacheCell = "fp16"
    ) -> None:
        if cell not in get_args(CacheCell):
            raise ValueError(
                f"[engine] the cache holds {', '.join(get_args(CacheCell))}, got {cell!r}"
            )
        self.max_batch = max_batch
        self.max_length = max_length
        self.cell = cell
        self._kv_heads = config.kv_heads
        shape = (config.layers, 2, max_batch, config.kv_heads, max_length, config.head_dim)
        self.store = torch.zeros(shape, dtype=_TORCH[cell])
        self.scales = torch.zeros(shape[:-1]) if cell == "int8" else None
        self.starts = torch.zeros(max_batch, dtype=torch.int32)
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
        for place, cells in enumerate((keys, values)):
            target = self.store[layer, place, : self.batch, :, : self.length]
            if self.scales is None:
                target.copy_(cells)
            else:
                codes, scales = quantize_cells(cells)
                target.copy_(codes)
                self.scales[layer, place, : self.batch, :, : self.length] = scales

    def require_room(self) -> None:
        """Raise ValueError when no column is left."""
        if self.length >= self.max_length:
            raise ValueError(f"[engine] the KV cache is full: max_length={self.max_length}")

    def advance(self) -> int:
        """Take the next column; returns its index. Raises ValueError when full."""
        self.require_room()
        self.length += 1
        return self.length - 1

    def append(self, layer: int, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Store f32 [2, B, kv_heads, D] (keys, values) in the newest column.

        Returns all columns' keys and values, f32 [B, kv_heads, length, D] each.
        """
        active = self.store[layer, :, : self.batch]
        window = active.narrow(3, 0, self.length)
        if self.scales is None:
            active.select(3, self.length - 1).copy_(cells)
            return window.float().unbind(0)
        codes, scales = quantize_cells(cells)
        active.select(3, self.length - 1).copy_(codes)
        active_scales = self.scales[layer, :, : self.batch, :, : self.length]
        active_scales[..., -1] = scales
        return (window.float() * active_scales[..., None]).unbind(0)

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
            used = self.store[..., : self.length, :]
            used[:, :, target] = used[:, :, source]
            if self.scales is not None:
                self.scales[:, :, target] = self.scales[:, :, source]
            self._mask_store[target] = self._mask_store[source]
        order = list(range(count))
        for hole, row in zip(holes, moved, strict=True):
            order[hole] = row
        self._starts = [self._starts[row] for row in order]
        self._bind(count)
        return order

    def _bind(self, batch: int) -> None:
        self._batch = batch
        is_padded = any(self._starts)
        self._start_column = torch.tensor(self._starts) if is_padded else None
        self.starts[:batch] = torch.tensor(self._starts, dtype=torch.int32)


def quantize_cells(cells: Tensor) -> tuple[Tensor, Tensor]:
    """f32 [..., D] -> codes int8 [..., D] and scales f32 [...], as the native append does it.

    A row with NaN or infinity gets the scale NaN, so that what attends to it is NaN too.
    """
    peaks = cells.abs().amax(-1, keepdim=True).clamp_min(_SMALLEST_PEAK)
    is_finite = torch.isfinite(peaks)
    codes = (cells * (_LEVELS / peaks)).round().nan_to_num(0.0)
    codes = torch.where(is_finite, codes, torch.zeros(())).to(torch.int8)
    scales = torch.where(is_finite, peaks / _LEVELS, torch.full((), torch.nan))
    return codes, scales.squeeze(-1)
