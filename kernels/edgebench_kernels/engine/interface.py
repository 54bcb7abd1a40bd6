"""What every decode engine offers, on whatever device, and the checks that all of them make."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.generate import generate_greedy, pick


@runtime_checkable
class SizedLinear(Protocol):
    """A linear that says what it streams; the engines' own linears all do."""

    shape: tuple[int, int]

    def weight_bytes_at(self, rows: int) -> int:
        """Bytes of weights read for a product of this many rows."""

    def describe(self) -> str:
        """What executes, e.g. 'fp16@1 bf16@2-16 bf16@>16'."""


class DecodeEngine(ABC):
    """Prefill, decode and greedy generation for up to max_batch rows of max_length tokens.

    Token ids come as integer tensors and logits go as f32, both on the CPU, wherever the engine
    computes. Not thread-safe: one cache, one caller.
    """

    config: LlamaConfig
    linears: Mapping[str, object]
    _embedding: Tensor

    @property
    @abstractmethod
    def max_batch(self) -> int:
        """Rows the cache was made for."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Tokens per row the cache was made for."""

    @property
    @abstractmethod
    def batch(self) -> int:
        """Rows that are active."""

    @abstractmethod
    def prefill(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """Start new rows from prompts and return the logits f32 [B, V] at each last position.

        ids is int [B, T]; row i is ids[i, :lengths[i]], the rest is ignored.
        """

    @abstractmethod
    def forward_all(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """Teacher forcing: logits f32 [B, T, V] at every position, zeros past each length."""

    @abstractmethod
    def decode(self, ids: Tensor) -> Tensor:
        """Append one token per active row, ids int [B]; returns the next logits f32 [B, V]."""

    @abstractmethod
    def keep(self, rows: list[int]) -> list[int]:
        """Drop every active row not listed; returns the kept rows in their new order."""

    def prefill_greedy(self, ids: Tensor, lengths: Sequence[int]) -> list[int]:
        """`prefill`, of which the most likely next tokens are returned.

        Raises FloatingPointError when a row's largest logit is not finite.
        """
        return pick(self.prefill(ids, lengths), self.describe)

    def decode_greedy(self, tokens: Sequence[int]) -> list[int]:
        """`decode`, of which the most likely next tokens are returned.

        Raises FloatingPointError when a row's largest logit is not finite.
        """
        return pick(self.decode(torch.tensor(tokens)), self.describe)

    def warm_up(self, batches: Iterable[Sequence[int]]) -> None:  # noqa: B027
        """Do once, untimed, what batches of these prompt lengths would else do at first sight.

        Ends active rows. Nothing by default: on CPUs no shape costs more the first time.
        """

    def generate_greedy(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        eos_id: int | None,
        on_first_token: Callable[[int], None] | None = None,
        on_complete: Callable[[int, list[int]], None] | None = None,
    ) -> list[list[int]]:
        """Greedy answers, end-of-sequence included; see `generate.generate_greedy`."""
        return generate_greedy(self, prompts, max_new_tokens, eos_id, on_first_token, on_complete)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that one single-stream decode step streams."""
        return self.weight_bytes_at(1)

    def weight_bytes_at(self, batch: int) -> int:
        """Bytes of weights that one decode step of this batch streams, as executed.

        Linears as they execute at so many rows, plus one fp16 embedding row per sequence.
        """
        embedded = batch * self.config.hidden_size * self._embedding.element_size()
        return embedded + sum(linear.weight_bytes_at(batch) for linear in self._sized())

    @property
    def operations_per_token(self) -> int:
        """Arithmetic operations per decoded token: 2 per weight of a linear; attention excluded."""
        return sum(2 * math.prod(linear.shape) for linear in self._sized())

    def describe(self) -> str:
        """What the linears execute, e.g. 'fp16@1 bf16@2-16 bf16@>16'."""
        told = {one.describe() for one in self.linears.values() if isinstance(one, SizedLinear)}
        return " + ".join(sorted(told)) or "unknown"

    def _sized(self) -> list[SizedLinear]:
        sized: list[SizedLinear] = []
        for name, linear in self.linears.items():
            if not isinstance(linear, SizedLinear):
                raise ValueError(f"[engine] the linear {name} does not state its shape and bytes")
            sized.append(linear)
        return sized

    def _packed(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> tuple[Tensor, list[int]]:
        """The prompts' tokens one after the other, int [S], and their lengths, all checked."""
        counts = [int(length) for length in lengths]
        self._check_prompts(ids, counts)
        tokens = torch.cat([ids[row, :count] for row, count in enumerate(counts)])
        self._check_ids(tokens)
        return tokens, counts

    def _check_prompts(self, ids: Tensor, counts: list[int]) -> None:
        if ids.dim() != 2 or ids.shape[0] != len(counts):
            raise ValueError(
                f"[engine] ids must be [B, T] with B={len(counts)} lengths, got {list(ids.shape)}"
            )
        if not 1 <= len(counts) <= self.max_batch:
            raise ValueError(f"[engine] batch must be 1..{self.max_batch}, got {len(counts)}")
        if min(counts) < 1 or max(counts) > ids.shape[1]:
            raise ValueError(f"[engine] lengths must be 1..{ids.shape[1]}, got {counts}")
        if max(counts) > self.max_length:
            raise ValueError(
                f"[engine] the prompt has {max(counts)} tokens but the cache holds "
                f"max_length={self.max_length}"
            )

    def _check_step(self, ids: Tensor) -> None:
        """Raise ValueError unless ids are one token for each active row."""
        if tuple(ids.shape) != (self.batch,):
            raise ValueError(
                f"[engine] decode needs one token for each of {self.batch} active rows, "
                f"got shape {list(ids.shape)}"
            )
        self._check_ids(ids)

    def _check_ids(self, ids: Tensor) -> None:
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"[engine] token ids must be 0..{self.config.vocab_size - 1}, got {low}..{high}"
            )


def check_size(max_batch: int, max_length: int) -> None:
    """Raise ValueError for an engine of no rows or no columns."""
    if max_batch < 1 or max_length < 1:
        raise ValueError(
            f"[engine] max_batch and max_length must be >= 1, got {max_batch} and {max_length}"
        )


def check_window(config: LlamaConfig, max_length: int) -> None:
    """Raise ValueError for rows longer than a sliding window: attention here sees all of a row."""
    if config.sliding_window is not None and max_length > config.sliding_window:
        raise ValueError(
            f"[engine] this model attends to the last {config.sliding_window} tokens "
            f"(sliding_window), so max_length may be no more, got {max_length}"
        )


def padded_logits(logits: Tensor, ids: Tensor, counts: list[int]) -> Tensor:
    """[S, V] of packed tokens -> [B, T, V] as ids [B, T], zeros past each length."""
    if logits.shape[0] == ids.numel():
        return logits.view(*ids.shape, -1)
    result = logits.new_zeros(len(counts), ids.shape[1], logits.shape[-1])
    for row, part in enumerate(logits.split(counts)):
        result[row, : counts[row]] = part
    return result
