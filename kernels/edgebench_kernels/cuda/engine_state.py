"""What a GPU engine keeps on the device between steps: the KV cache, and where each row stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench_kernels.engine.cache import CacheCell
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.interface import check_size
from edgebench_kernels.engine.rope import Rotations

ALIGNMENT = 16  # of what kernels are given

_TORCH: dict[CacheCell, torch.dtype] = {"fp16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What an engine has room for: rows, tokens a row, and what a cell of the cache is."""

    max_batch: int = 1
    max_length: int = 512
    cell: CacheCell = "fp16"

    def __post_init__(self) -> None:
        check_size(self.max_batch, self.max_length)
        if self.cell not in _TORCH:
            raise ValueError(f"[engine] on GPUs the cache holds fp16 or int8, got {self.cell!r}")


class GpuCache:
    """Keys and values [layers, 2, B, kv_heads, T, D] with every row's first token in column 0.

    So the rows of a batch have different next columns, and prompts padded on their right need no
    mask. `store` holds the cells, `scales` f32 [layers, 2, B, kv_heads, T] those of int8 cells.
    """

    def __init__(self, config: LlamaConfig, room: Room, device: torch.device) -> None:
        self.max_batch, self.max_length = room.max_batch, room.max_length
        columns = (config.layers, 2, room.max_batch, config.kv_heads, room.max_length)
        cells = (*columns, config.head_dim)
        self.store = torch.zeros(cells, dtype=_TORCH[room.cell], device=device)
        self.scales = torch.zeros(columns, device=device) if room.cell == "int8" else None
        self.starts = torch.zeros(room.max_batch, dtype=torch.int32, device=device)
        self.rotations = Rotations(config, room.max_length).halves.to(device)

    def layer(self, index: int) -> tuple[Tensor, Tensor | None]:
        """One layer's cells and scales."""
        return self.store[index], None if self.scales is None else self.scales[index]

    def move(self, target: Tensor, source: Tensor, length: int) -> None:
        """Rows `target` become rows `source`, of at most `length` tokens; int64 on the device."""
        used = self.store[..., :length, :]
        used[:, :, target] = used[:, :, source]
        if self.scales is not None:
            self.scales[:, :, target] = self.scales[:, :, source]


class RowState:
    """Each row's next token, next column and answer; `rows` of them, the active ones first.

    A row that is not active is finished: it decodes token 0 in column 0 again and again, for
    nobody. What the host reads after every step, ids and status, lies together.
    """

    def __init__(self, rows: int, limit: int, device: torch.device) -> None:
        self._rows, self._device = rows, device
        size_bytes = _status_at(rows) + 4 * rows
        self._answer = torch.zeros(size_bytes, dtype=torch.uint8, device=device)
        self._host = torch.zeros(size_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.ids, self.status = _split(self._answer, rows)
        self.columns = self._zeros(rows)
        self.counts = self._zeros(rows)
        self.finished = torch.ones(rows, dtype=torch.int32, device=device)
        self.output = torch.zeros(rows, limit, dtype=torch.int64, device=device)
        self.remaining = self._zeros(1)
        self.best = torch.zeros(rows, dtype=torch.int64, device=device)
        self.argmax_counters = self._zeros(rows)

    def _zeros(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.int32, device=self._device)

    def reset(self, columns: Sequence[int]) -> None:
        """Begin new rows whose next tokens go to these columns."""
        for state in (self.ids, self.status, self.counts):
            state.zero_()
        inactive = self._rows - len(columns)
        self.columns.copy_(torch.tensor([*columns, *[0] * inactive], dtype=torch.int32))
        finished = [*[0] * len(columns), *[1] * inactive]
        self.finished.copy_(torch.tensor(finished, dtype=torch.int32))

    def feed(self, tokens: Tensor) -> None:
        """The tokens that the next step appends, int [B] on the CPU."""
        self.ids[: len(tokens)].copy_(tokens)

    def read(self, batch: int) -> tuple[list[int], list[int]]:
        """The tokens that the active rows chose, and their status; waits for the step to end."""
        self._host.copy_(self._answer)
        ids, status = _split(self._host, self._rows)
        return ids[:batch].tolist(), status[:batch].tolist()

    def keep(self, target: Tensor, source: Tensor, batch: int) -> None:
        """Rows `target` become rows `source`; then only the first `batch` are active."""
        for state in (self.ids, self.status, self.columns, self.counts, self.output):
            state[target] = state[source]
        for state in (self.ids, self.status, self.columns):
            state[batch:] = 0
        self.finished[batch:] = 1

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """What happens inside leaves the rows where they were."""
        states = (self._answer, self.columns, self.counts, self.finished)
        before = [state.clone() for state in states]
        yield
        for state, value in zip(states, before, strict=True):
            state.copy_(value)


def _split(answer: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """ids int64 [rows] and status int32 [rows] of the bytes of both."""
    return answer[: 8 * rows].view(torch.int64), answer[_status_at(rows) :].view(torch.int32)


def _status_at(rows: int) -> int:
    return -(-8 * rows // ALIGNMENT) * ALIGNMENT
