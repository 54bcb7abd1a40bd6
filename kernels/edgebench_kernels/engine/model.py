"""The decode engine: a Llama-family decoder with a static KV cache whose linears are pluggable.

Activations are fp32; what a linear does inside (fp16, bf16, INT4) is its own business, so the fp16
reference and the INT4 model run the same code around the products: the native operations where the
library is there, else torch's. Where all linears are packed INT4, a decode step is one native call
that runs the same operations with no Python between them. q/k/v and gate/up are one product each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgebench_kernels.engine.arithmetic import OpsChoice, OpsName, PathChoice
from edgebench_kernels.engine.cache import CacheCell, KvCache
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.generate import overflow
from edgebench_kernels.engine.interface import (
    DecodeEngine,
    check_size,
    check_window,
    padded_logits,
)
from edgebench_kernels.engine.linear_int4 import PathLinear
from edgebench_kernels.engine.native_ops import HEAD_DIM_MULTIPLE, NativeOps, can_run
from edgebench_kernels.engine.nonlinear import Attention, NormWeight, StepOps, TorchOps
from edgebench_kernels.engine.qkv_finish import QkvFinish
from edgebench_kernels.engine.rope import Rotations
from edgebench_kernels.engine.weights import EMBEDDING, FINAL_NORM

if TYPE_CHECKING:
    from edgebench_kernels.engine.native_decoder import NativeDecoder

Linear = Callable[[Tensor], Tensor]
"""f32 [..., K] -> f32 [..., N]; the engine may overwrite what it returns."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One decoder layer."""

    attention_norm: NormWeight
    qkv: Linear
    finish: QkvFinish | None
    o: Linear
    mlp_norm: NormWeight
    gate_up: Linear
    down: Linear


class Engine(DecodeEngine):
    """The engine of CPUs.

    `tensors` holds the embedding and the norms under their Hugging Face names; `linears` maps each
    of `fused_linears(config)` to a callable. `cell` is what the cache holds. `ops` names what runs
    between the linears; None is native where the library is there and knows the head size.
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
        check_size(max_batch, max_length)
        check_window(config, max_length)
        names = fused_linears(config)
        missing = [name for name in names if name not in linears]
        if missing:
            raise ValueError(f"[engine] no linear given for {', '.join(missing[:4])}")
        self.config = config
        self.cache = KvCache(config, max_batch, max_length, cell)
        self.linears: Mapping[str, Linear] = {name: linears[name] for name in names}
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
    def batch(self) -> int:
        """Rows that are active."""
        return self.cache.batch

    @torch.inference_mode()
    def prefill(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """See DecodeEngine."""
        tokens, counts = self._begin(ids, lengths)
        if self._decoder is not None:
            return self._decoder.prompts(tokens, counts, every=False)
        ops = self._ops_for(len(tokens))
        hidden = self._run_layers(self._embed(tokens), ops, ops.prompt_attention(counts))
        return self._head(hidden.index_select(0, torch.tensor(counts).cumsum(0) - 1))

    @torch.inference_mode()
    def forward_all(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """See DecodeEngine."""
        tokens, counts = self._begin(ids, lengths)
        if self._decoder is not None:
            logits = self._decoder.prompts(tokens, counts, every=True)
        else:
            ops = self._ops_for(len(tokens))
            attention = ops.prompt_attention(counts)
            logits = self._head(self._run_layers(self._embed(tokens), ops, attention))
        return padded_logits(logits, ids, counts)

    @torch.inference_mode()
    def decode(self, ids: Tensor) -> Tensor:
        """See DecodeEngine."""
        self._check_step(ids)
        if self._decoder is not None:
            return self._decoder.decode(ids)
        ops = self._ops_for(len(ids))
        return self._head(self._run_layers(self._embed(ids), ops, ops.token_attention()))

    def decode_greedy(self, tokens: Sequence[int]) -> list[int]:
        """See DecodeEngine."""
        if self._decoder is None or len(tokens) != self.cache.batch:
            return super().decode_greedy(tokens)
        try:
            return self._decoder.greedy(tokens)
        except FloatingPointError:
            raise overflow(self.describe()) from None

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> list[int]:
        """See DecodeEngine."""
        return self.cache.keep(rows)

    def _begin(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> tuple[Tensor, list[int]]:
        """Reset the cache to new prompts; returns their packed tokens int [S] and lengths."""
        tokens, counts = self._packed(ids, lengths)
        self.cache.reset(counts)
        return tokens, counts

    def _embed(self, ids: Tensor) -> Tensor:
        """int [S] -> f32 [S, C]."""
        return self._embedding.index_select(0, ids).float()

    def _run_layers(self, x: Tensor, ops: StepOps, attention: Attention) -> Tensor:
        """Embedded rows f32 [S, C] (overwritten) -> normed hidden states f32 [S, C]."""
        delta = None
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(ops.add_norm(x, delta, layer.attention_norm))
            if layer.finish is not None:
                qkv = layer.finish(qkv)
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
        """The one-call decode step, if every linear is packed INT4 and goes the same way.

        That call has no biases and no norms of heads.
        """
        from edgebench_kernels.engine.native_decoder import NativeDecoder
        from edgebench_kernels.linear import Int4Linear
        from edgebench_kernels.packing import PackedInt4

        if any(layer.finish is not None for layer in self._layers):
            return None
        packed: dict[str, PackedInt4] = {}
        paths: PathChoice | None = None
        for name, linear in self.linears.items():
            if not isinstance(linear, PathLinear) or not isinstance(linear.packed, Int4Linear):
                return None
            weights = linear.packed.packed
            if not isinstance(weights, PackedInt4) or paths not in (None, linear.paths):
                return None
            packed[name], paths = weights, linear.paths
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
            finish=QkvFinish.of(self.config, tensors, index),
            o=self.linears[ours + "o"],
            mlp_norm=NormWeight.of(tensors[hf + "post_attention_layernorm.weight"]),
            gate_up=self.linears[ours + "gate_up"],
            down=self.linears[ours + "down"],
        )
