"""A Llama-family model on a GPU: its weights, its rows of activations, and its way through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from edgebench_kernels.cuda.geometry import GEMV_TOKENS
from edgebench_kernels.cuda.layout import TILE_ROWS
from edgebench_kernels.cuda.linear import GpuInt4, Product, Squares, Stream
from edgebench_kernels.cuda.step_kernels import StepKernels
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.weights import EMBEDDING, FINAL_NORM

GEMV_PATH = "w4a16"
"""The path whose kernel for few rows takes norms in."""

Attend = Callable[[int, Tensor], Tensor]
"""(layer, qkv fp16 [S, (H + 2 kv_heads) D], overwritten) -> fp16 [S, H D]."""


class GpuLinear(Protocol):
    """A linear [N, K] of the model; x fp16 [S, K]."""

    shape: tuple[int, int]
    logits_dtype: torch.dtype
    """What y is where the outputs are logits."""

    def multiply(self, x: Tensor, y: Tensor) -> None:
        """y [S, N] = x W^T, fp16, or logits."""

    def swiglu(self, x: Tensor, y: Tensor) -> None:
        """y fp16 [S, N / 2] = silu(gate) * up, where rows of W are gate's, then up's."""

    def fused(self, rows: int) -> GpuInt4 | None:
        """The weights, where their product of so many rows takes the norms in; else None."""

    def weight_bytes_at(self, rows: int) -> int:
        """Bytes of weights read for a product of so many rows, as executed."""

    def describe(self) -> str:
        """What executes."""


L = TypeVar("L", bound=GpuLinear)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One decoder layer; norms are f32 [C]."""

    attention_norm: Tensor
    qkv: GpuLinear
    o: GpuLinear
    mlp_norm: Tensor
    gate_up: GpuLinear
    down: GpuLinear

    @property
    def linears(self) -> tuple[GpuLinear, ...]:
        """In the order in which they multiply."""
        return self.qkv, self.o, self.gate_up, self.down


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """Rows of every intermediate result; fp16 but for the residual stream x."""

    x: Tensor
    normed: Tensor
    qkv: Tensor
    mixed: Tensor
    delta: Tensor
    inner: Tensor

    @staticmethod
    def of(config: LlamaConfig, rows: int, device: torch.device) -> Activations:
        """For so many rows."""

        def half(width: int) -> Tensor:
            return torch.empty(rows, width, dtype=torch.float16, device=device)

        return Activations(
            x=torch.empty(rows, config.hidden_size, device=device),
            normed=half(config.hidden_size),
            qkv=half(config.qkv_heads * config.head_dim),
            mixed=half(config.query_size),
            delta=half(config.hidden_size),
            inner=half(config.intermediate_size),
        )

    def first(self, rows: int) -> Activations:
        """The first rows, in the same memory."""
        return Activations(
            x=self.x[:rows],
            normed=self.normed[:rows],
            qkv=self.qkv[:rows],
            mixed=self.mixed[:rows],
            delta=self.delta[:rows],
            inner=self.inner[:rows],
        )


class GpuModel:
    """Weights on the device, and the kernels between them.

    `tensors` are the embedding, fp16, and the norms, under their Hugging Face names.
    """

    def __init__(
        self,
        config: LlamaConfig,
        tensors: Mapping[str, Tensor],
        linears: Mapping[str, GpuLinear],
        kernels: StepKernels,
    ) -> None:
        self.embedding = tensors[EMBEDDING].contiguous()
        self.lm_head = linears["lm_head"]
        self._kernels = kernels
        self._final_norm = tensors[FINAL_NORM].float()
        self._layers = [_layer(index, tensors, linears) for index in range(config.layers)]
        parts = GEMV_TOKENS[-1] * -(-config.hidden_size // TILE_ROWS)
        self._squares = Squares(
            values=torch.zeros(parts, device=self._final_norm.device), eps=config.rms_norm_eps
        )

    def run(self, ids: Tensor, rows: Activations, attend: Attend, status: Tensor | None) -> None:
        """Tokens int64 [S] through all layers: rows.x and rows.delta are what `head` takes."""
        kernels = self._kernels
        kernels.embed(ids, self.embedding, rows.x, status)
        delta = None
        for index, layer in enumerate(self._layers):
            kernels.norm(rows.x, delta, layer.attention_norm, rows.normed)
            layer.qkv.multiply(rows.normed, rows.qkv)
            mixed = attend(index, rows.qkv)
            delta = rows.delta
            layer.o.multiply(mixed, delta)
            kernels.norm(rows.x, delta, layer.mlp_norm, rows.normed)
            layer.gate_up.swiglu(rows.normed, rows.inner)
            layer.down.multiply(rows.inner, delta)

    def step(
        self,
        ids: Tensor,
        rows: Activations,
        attend: Attend,
        status: Tensor | None,
        logits: Tensor,
    ) -> None:
        """`run` and `head`; without a kernel for each norm where the linears take them in."""
        chain = self._fused(len(ids))
        if chain is None:
            self.run(ids, rows, attend, status)
            self.head(rows.x, rows.delta, rows.normed, logits)
            return
        first, squares, weights = self._layers[0], self._squares, iter(chain)
        self._kernels.embed(ids, self.embedding, rows.x, status)
        self._kernels.norm(rows.x, None, first.attention_norm, rows.normed)
        next(weights).multiply(GEMV_PATH, Product(x=rows.normed, y=rows.qkv, overlap=True))
        norms = [*(layer.attention_norm for layer in self._layers[1:]), self._final_norm]
        outs = [*(rows.qkv for _ in self._layers[1:]), logits]
        for index, layer in enumerate(self._layers):
            streams = [
                Stream(x=rows.x, weight=norm, squares=squares)
                for norm in (layer.mlp_norm, norms[index])
            ]
            mixed = attend(index, rows.qkv)
            for x, stream, y in (
                (mixed, streams[0], rows.normed),
                (rows.normed, None, rows.inner),
                (rows.inner, streams[1], rows.normed),
                (rows.normed, None, outs[index]),
            ):
                product = Product(
                    x=x, y=y, overlap=True, stream=stream, squares=None if stream else squares
                )
                next(weights).multiply(GEMV_PATH, product)

    def _fused(self, rows: int) -> list[GpuInt4] | None:
        """The weights of all linears in their order, if each takes the norms in."""
        linears = [one for layer in self._layers for one in layer.linears]
        chain = [one.fused(rows) for one in (*linears, self.lm_head)]
        found = [one for one in chain if one is not None]
        return found if len(found) == len(chain) else None

    def head(self, x: Tensor, delta: Tensor, normed: Tensor, logits: Tensor) -> None:
        """Logits [S, V] of rows: x f32 and delta fp16 [S, C]; normed fp16 [S, C] is overwritten."""
        self._kernels.norm(x, delta, self._final_norm, normed)
        self.lm_head.multiply(normed, logits)


def _layer(index: int, tensors: Mapping[str, Tensor], linears: Mapping[str, GpuLinear]) -> _Layer:
    hf, ours = f"model.layers.{index}.", f"layers.{index}."
    return _Layer(
        attention_norm=tensors[hf + "input_layernorm.weight"].float(),
        qkv=linears[ours + "qkv"],
        o=linears[ours + "o"],
        mlp_norm=tensors[hf + "post_attention_layernorm.weight"].float(),
        gate_up=linears[ours + "gate_up"],
        down=linears[ours + "down"],
    )
