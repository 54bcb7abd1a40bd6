"""The decode engine: a Llama-family decoder with a static KV cache whose linears are pluggable.

Activations are fp32; what a linear does inside (fp16, bf16, INT4) is its own business, so the fp16
reference and the INT4 model run the same code around the products. q/k/v and gate/up are one
product each. Nothing is allocated per step that could be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgebench_kernels.engine.attention import PromptAttention, PromptLayout, TokenAttention
from edgebench_kernels.engine.cache import KvCache
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.generate import generate_greedy
from edgebench_kernels.engine.weights import EMBEDDING, FINAL_NORM

Linear = Callable[[Tensor], Tensor]
"""f32 [..., K] -> f32 [..., N]; the engine may overwrite what it returns."""


@runtime_checkable
class SizedLinear(Protocol):
    """A linear that says what it streams; the engine's own linears all do."""

    shape: tuple[int, int]

    def weight_bytes_at(self, rows: int) -> int:
        """Bytes of weights read for a product of this many rows."""

    def describe(self) -> str:
        """What executes, e.g. 'fp16@1 bf16@2-16 bf16@>16'."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One decoder layer; norms are f32 [1, C], already times sqrt(C)."""

    attention_norm: Tensor
    qkv: Linear
    o: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


class Engine:
    """Prefill, decode and greedy generation for up to max_batch rows of max_length tokens.

    `tensors` holds the embedding and the norms under their Hugging Face names; `linears` maps each
    of `fused_linears(config)` to a callable. Not thread-safe: one cache, one caller.
    """

    def __init__(
        self,
        config: LlamaConfig,
        tensors: Mapping[str, Tensor],
        linears: Mapping[str, Linear],
        *,
        max_batch: int = 1,
        max_length: int = 512,
    ) -> None:
        if max_batch < 1 or max_length < 1:
            raise ValueError(
                f"[engine] max_batch and max_length must be >= 1, got {max_batch} and {max_length}"
            )
        names = fused_linears(config)
        missing = [name for name in names if name not in linears]
        if missing:
            raise ValueError(f"[engine] no linear given for {', '.join(missing[:4])}")
        self.config = config
        self.cache = KvCache(config, max_batch, max_length)
        self.linears = {name: linears[name] for name in names}
        self._embedding = tensors[EMBEDDING]
        self._norm_floor = torch.tensor(math.sqrt(config.hidden_size * config.rms_norm_eps))
        self._final_norm = self._scaled_norm(tensors[FINAL_NORM])
        self._layers = [self._layer(index, tensors) for index in range(config.layers)]
        self._rotations = _rotations(config, max_length)

    @property
    def max_batch(self) -> int:
        """Rows the cache was made for."""
        return self.cache.max_batch

    @property
    def max_length(self) -> int:
        """Tokens per row the cache was made for."""
        return self.cache.max_length

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that one single-stream decode step streams."""
        return self.weight_bytes_at(1)

    def weight_bytes_at(self, batch: int) -> int:
        """Bytes of weights that one decode step of this batch streams, as executed.

        Linears in the arithmetic of their regime, plus one fp16 embedding row per sequence.
        """
        embedded = batch * self.config.hidden_size * self._embedding.element_size()
        return embedded + sum(linear.weight_bytes_at(batch) for linear in self._sized())

    @property
    def operations_per_token(self) -> int:
        """Arithmetic operations per decoded token: 2 per weight of a linear; attention excluded."""
        return sum(2 * math.prod(linear.shape) for linear in self._sized())

    def describe(self) -> str:
        """What the linears execute, e.g. 'fp16@1 bf16@2-16 bf16@>16'."""
        linears: list[object] = list(self.linears.values())
        told = {one.describe() for one in linears if isinstance(one, SizedLinear)}
        return " + ".join(sorted(told)) or "unknown"

    def _sized(self) -> list[SizedLinear]:
        sized: list[SizedLinear] = []
        for name, linear in self.linears.items():
            candidate: object = linear
            if not isinstance(candidate, SizedLinear):
                raise ValueError(f"[engine] the linear {name} does not state its shape and bytes")
            sized.append(candidate)
        return sized

    @torch.inference_mode()
    def prefill(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """Start new rows from prompts and return the logits f32 [B, V] at each last position.

        ids is int [B, T]; row i is ids[i, :lengths[i]], the rest is ignored.
        """
        hidden, layout = self._prompt_states(ids, lengths)
        return self._head(hidden.index_select(0, layout.last_rows))

    @torch.inference_mode()
    def forward_all(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """Teacher forcing: logits f32 [B, T, V] at every position, zeros past each length."""
        hidden, layout = self._prompt_states(ids, lengths)
        logits = self._head(hidden)
        if logits.shape[0] == ids.numel():
            return logits.view(*ids.shape, -1)
        counts = _lengths_list(lengths)
        result = logits.new_zeros(layout.batch, ids.shape[1], logits.shape[-1])
        for row, part in enumerate(logits.split(counts)):
            result[row, : counts[row]] = part
        return result

    @torch.inference_mode()
    def decode(self, ids: Tensor) -> Tensor:
        """Append one token per active row, ids int [B]; returns the next logits f32 [B, V]."""
        if tuple(ids.shape) != (self.cache.batch,):
            raise ValueError(
                f"[engine] decode needs one token for each of {self.cache.batch} active rows, "
                f"got shape {list(ids.shape)}"
            )
        x = self._embed(ids)
        attention = TokenAttention(self.config, self.cache)
        return self._head(self._run_layers(x, self.cache.last_positions(), attention))

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> list[int]:
        """Drop every active row not listed; returns the kept rows in their new order."""
        return self.cache.keep(rows)

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

    def _prompt_states(
        self, ids: Tensor, lengths: Sequence[int] | Tensor
    ) -> tuple[Tensor, PromptLayout]:
        """Run whole prompts; returns normed hidden states of the packed tokens f32 [S, C]."""
        counts = _lengths_list(lengths)
        self._check_prompts(ids, counts)
        rows = [ids[row, :count] for row, count in enumerate(counts)]
        x = self._embed(torch.cat(rows))
        layout = PromptLayout(counts)
        self.cache.reset(counts)
        attention = PromptAttention(self.config, self.cache, layout)
        return self._run_layers(x, layout.positions, attention), layout

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

    def _embed(self, ids: Tensor) -> Tensor:
        """int [S] -> f32 [S, C]; raises ValueError on an id outside the vocabulary."""
        try:
            return self._embedding.index_select(0, ids).float()
        except (IndexError, RuntimeError) as err:
            low, high = int(ids.min()), int(ids.max())
            if low >= 0 and high < self.config.vocab_size:
                raise
            raise ValueError(
                f"[engine] token ids must be 0..{self.config.vocab_size - 1}, got {low}..{high}"
            ) from err

    def _run_layers(
        self, x: Tensor, positions: Tensor | int, attention: PromptAttention | TokenAttention
    ) -> Tensor:
        """Embedded rows f32 [S, C] (overwritten) -> normed hidden states f32 [S, C]."""
        config = self.config
        rows, rotated = x.shape[0], config.heads + config.kv_heads
        cos, sin = self._rotation(positions)
        for index, layer in enumerate(self._layers):
            heads = layer.qkv(self._rms_norm(x, layer.attention_norm))
            heads = heads.view(rows, config.qkv_heads, config.head_dim)
            _rotate_(heads.narrow(1, 0, rotated), cos, sin)
            x.add_(layer.o(attention(index, heads)))
            gate, up = layer.gate_up(self._rms_norm(x, layer.mlp_norm)).chunk(2, -1)
            x.add_(layer.down(F.silu(gate).mul_(up)))
        return self._rms_norm(x, self._final_norm)

    def _head(self, hidden: Tensor) -> Tensor:
        return self.linears["lm_head"](hidden)

    def _rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """x * weight / sqrt(mean(x^2) + eps) as ||(x, sqrt(C eps))||: four small operations."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.mul(x, weight).div_(torch.hypot(norm, self._norm_floor))

    def _rotation(self, positions: Tensor | int) -> tuple[Tensor, Tensor]:
        """cos and signed sin, each f32 [S or 1, 1, D]."""
        if isinstance(positions, int):
            return self._rotations[positions].unbind(0)
        return self._rotations.index_select(0, positions).unbind(1)

    def _scaled_norm(self, weight: Tensor) -> Tensor:
        return weight.float().mul(math.sqrt(self.config.hidden_size))[None]

    def _layer(self, index: int, tensors: Mapping[str, Tensor]) -> _Layer:
        hf, ours = f"model.layers.{index}.", f"layers.{index}."
        return _Layer(
            attention_norm=self._scaled_norm(tensors[hf + "input_layernorm.weight"]),
            qkv=self.linears[ours + "qkv"],
            o=self.linears[ours + "o"],
            mlp_norm=self._scaled_norm(tensors[hf + "post_attention_layernorm.weight"]),
            gate_up=self.linears[ours + "gate_up"],
            down=self.linears[ours + "down"],
        )


def _rotate_(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """RoPE in place on f32 [S, H, D]; the halves of sin carry the signs (-, +)."""
    swapped = heads.roll(heads.shape[-1] // 2, -1)
    heads.mul_(cos).addcmul_(swapped, sin)


def _rotations(config: LlamaConfig, length: int) -> Tensor:
    """cos and signed sin for every position, f32 [length, 2, 1, D].

    Formula and order of fp32 operations are those of transformers' LlamaRotaryEmbedding.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    angles = torch.arange(length).float()[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    table = torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)], dim=1)
    return table[:, :, None]


def _lengths_list(lengths: Sequence[int] | Tensor) -> list[int]:
    counts = lengths.tolist() if isinstance(lengths, Tensor) else lengths
    return [int(count) for count in counts]
