"""The decode engine: a Llama-family decoder with a static KV cache whose linears are pluggable.

Activations are fp32; what a linear does inside (fp16, bf16, INT4) is its own business, so the fp16
reference and the INT4 model run the same code around the products: the native operations where the
library is there, else torch's. Where all linears are packed INT4, a decode step is one native call
that runs the same operations with no Python between them. q/k/v and gate/up are one product each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from edgebench_kernels.engine.arithmetic import OpsChoice, OpsName
from edgebench_kernels.engine.cache import CacheCell, KvCache
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.generate import generate_greedy, overflow, pick
from edgebench_kernels.engine.linear_int4 import PathLinear
from edgebench_kernels.engine.native_ops import HEAD_DIM_MULTIPLE, NativeOps, can_run
from edgebench_kernels.engine.nonlinear import Attention, NormWeight, StepOps, TorchOps
from edgebench_kernels.engine.rope import Rotations
from edgebench_kernels.engine.weights import EMBEDDING, FINAL_NORM

if TYPE_CHECKING:
    from edgebench_kernels.engine.native_decoder import NativeDecoder

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
    """One decoder layer."""

    attention_norm: NormWeight
    qkv: Linear
    o: Linear
    mlp_norm: NormWeight
    gate_up: Linear
    down: Linear


class Engine:
    """Prefill, decode and greedy generation for up to max_batch rows of max_length tokens.

    `tensors` holds the embedding and the norms under their Hugging Face names; `linears` maps each
    of `fused_linears(config)` to a callable. `cell` is what the cache holds. `ops` names what runs
    between the linears; None is native where the library is there and knows the head size.
    Not thread-safe: one cache, one caller.
    """

    def __init__(  # noqa: PLR0913 (keywords with defaults)
        self,
        config: LlamaConfig,
        tensors: Mapping[str, Tensor],
        linears: Mapping[str, Linear],
        *,
        max_batch: int = 1,
        max_length: int = 512,
        cell: CacheCell = "fp16",
        ops: OpsName | OpsChoice | None = None,
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
        self.cache = KvCache(config, max_batch, max_length, cell)
        self.linears = {name: linears[name] for name in names}
        self._embedding = tensors[EMBEDDING]
        self._final_norm = NormWeight.of(tensors[FINAL_NORM])
        self._layers = [self._layer(index, tensors) for index in range(config.layers)]
        self._rotations = Rotations(config, max_length)
        self._ops = self._all_ops()
        default: OpsName = "native" if "native" in self._ops else "torch"
        self.ops = OpsChoice.of(default if ops is None else ops)
        self._check_ops(self.ops)
        is_whole = self.ops == OpsChoice.of("native")
        self._decoder = self._whole_decoder() if is_whole else None

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
        tokens, counts = self._begin(ids, lengths)
        if self._decoder is not None:
            return self._decoder.prompts(tokens, counts, every=False)
        ops = self._ops_for(len(tokens))
        hidden = self._run_layers(self._embed(tokens), ops, ops.prompt_attention(counts))
        return self._head(hidden.index_select(0, torch.tensor(counts).cumsum(0) - 1))

    @torch.inference_mode()
    def forward_all(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """Teacher forcing: logits f32 [B, T, V] at every position, zeros past each length."""
        tokens, counts = self._begin(ids, lengths)
        if self._decoder is not None:
            logits = self._decoder.prompts(tokens, counts, every=True)
        else:
            ops = self._ops_for(len(tokens))
            attention = ops.prompt_attention(counts)
            logits = self._head(self._run_layers(self._embed(tokens), ops, attention))
        if logits.shape[0] == ids.numel():
            return logits.view(*ids.shape, -1)
        result = logits.new_zeros(len(counts), ids.shape[1], logits.shape[-1])
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
        self._check_ids(ids)
        if self._decoder is not None:
            return self._decoder.decode(ids)
        ops = self._ops_for(len(ids))
        return self._head(self._run_layers(self._embed(ids), ops, ops.token_attention()))

    def decode_greedy(self, tokens: Sequence[int]) -> list[int]:
        """Append one token per active row; returns the most likely next ones.

        Raises FloatingPointError when a row's largest logit is not finite.
        """
        if self._decoder is None or len(tokens) != self.cache.batch:
            return pick(self.decode(torch.tensor(tokens)), self.describe)
        try:
            return self._decoder.greedy(tokens)
        except FloatingPointError:
            raise overflow(self.describe()) from None

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

    def _begin(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> tuple[Tensor, list[int]]:
        """Reset the cache to new prompts; returns their packed tokens int [S] and lengths."""
        counts = [int(length) for length in lengths]
        self._check_prompts(ids, counts)
        tokens = torch.cat([ids[row, :count] for row, count in enumerate(counts)])
        self._check_ids(tokens)
        self.cache.reset(counts)
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

    def _embed(self, ids: Tensor) -> Tensor:
        """int [S] -> f32 [S, C]."""
        return self._embedding.index_select(0, ids).float()

    def _check_ids(self, ids: Tensor) -> None:
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"[engine] token ids must be 0..{self.config.vocab_size - 1}, got {low}..{high}"
            )

    def _run_layers(self, x: Tensor, ops: StepOps, attention: Attention) -> Tensor:
        """Embedded rows f32 [S, C] (overwritten) -> normed hidden states f32 [S, C]."""
        delta = None
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(ops.add_norm(x, delta, layer.attention_norm))
            delta = layer.o(attention(index, qkv))
            gate_up = layer.gate_up(ops.add_norm(x, delta, layer.mlp_norm))
            delta = layer.down(ops.swiglu(gate_up))
        return ops.add_norm(x, delta, self._final_norm)

    def _head(self, hidden: Tensor) -> Tensor:
        return self.linears["lm_head"](hidden)

    def use_ops(self, ops: OpsName | OpsChoice) -> None:
        """Run other operations between the linears from now on; not for an engine in one call."""
        if self._decoder is not None:
            raise ValueError("[engine] a decoder in one native call has no other operations")
        choice = OpsChoice.of(ops)
        self._check_ops(choice)
        self.ops = choice

    @property
    def available_ops(self) -> tuple[OpsName, ...]:
        """What `use_ops` takes on this machine."""
        return tuple(self._ops)

    def _check_ops(self, choice: OpsChoice) -> None:
        missing = {choice.single, choice.many} - set(self._ops)
        if missing:
            raise ValueError(
                f"[engine] {', '.join(sorted(missing))} operations need the native library and a "
                f"head_dim that is a multiple of {HEAD_DIM_MULTIPLE}, got head_dim="
                f"{self.config.head_dim}; here there are {', '.join(self._ops)}"
            )

    def _ops_for(self, rows: int) -> StepOps:
        return self._ops[self.ops.for_rows(rows)]

    def _all_ops(self) -> dict[OpsName, StepOps]:
        parts = (self.config, self.cache, self._rotations)
        ops: dict[OpsName, StepOps] = {"torch": TorchOps(*parts)}
        if can_run(self.config):
            ops["native"] = NativeOps(*parts)
            ops["native-1"] = NativeOps(*parts, is_alone=True)
        return ops

    def _whole_decoder(self) -> NativeDecoder | None:
        """The one-call decode step, if every linear is packed INT4 and goes the same way."""
        from edgebench_kernels.engine.native_decoder import NativeDecoder
        from edgebench_kernels.linear import Int4Linear

        packed, paths = {}, None
        for name, linear in self.linears.items():
            if not isinstance(linear, PathLinear) or not isinstance(linear.packed, Int4Linear):
                return None
            if paths not in (None, linear.paths):
                return None
            packed[name], paths = linear.packed.packed, linear.paths
        if paths is None:
            return None
        norms = [(layer.attention_norm, layer.mlp_norm) for layer in self._layers]
        return NativeDecoder(
            self.config,
            packed,
            paths,
            (norms, self._final_norm),
            self._embedding,
            (self.cache, self._rotations),
        )

    def _layer(self, index: int, tensors: Mapping[str, Tensor]) -> _Layer:
        hf, ours = f"model.layers.{index}.", f"layers.{index}."
        return _Layer(
            attention_norm=NormWeight.of(tensors[hf + "input_layernorm.weight"]),
            qkv=self.linears[ours + "qkv"],
            o=self.linears[ours + "o"],
            mlp_norm=NormWeight.of(tensors[hf + "post_attention_layernorm.weight"]),
            gate_up=self.linears[ours + "gate_up"],
            down=self.linears[ours + "down"],
        )
