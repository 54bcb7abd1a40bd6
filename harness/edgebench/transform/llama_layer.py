"""One decoder layer in plain torch: what its linears read, and a walk that shows their inputs.

A layer's tensors have names relative to it (`self_attn.q_proj.weight`). Biases and the per-head
norms of Qwen (`q_norm`, `k_norm`, which stand behind q and k and so hinder no fold in front of
them) are computed where a layer has them; fused projections are split, and joined again at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edgebench.transform.scale_groups import (
    DOWN,
    FUSED,
    GATE,
    INPUT_NORM,
    LINEARS,
    MLP_NORM,
    SCALE_GROUPS,
    UP,
    K,
    O,
    Q,
    ScaleGroup,
    V,
)
from edgebench_kernels.engine import LlamaConfig
from edgebench_kernels.engine.rope import Rotations

SEQUENCES_AT_ONCE = 32  # in attention, which pads them to the longest


Visit = Callable[[ScaleGroup, Tensor], None]
"""(group, the input of its readers f32 [S, K]); may replace the readers' weights."""


class Layer:
    """The tensors of one layer in float32, and the shape that they have."""

    def __init__(self, config: LlamaConfig, tensors: Mapping[str, Tensor]) -> None:
        self.config = config
        self.tensors = {name: tensor.float() for name, tensor in tensors.items()}
        self.fused = tuple(name for name in FUSED if f"{name}.weight" in tensors)
        for name in self.fused:
            self._split(name)

    def weight(self, name: str) -> Tensor:
        """The weight of a linear [N, K], or of a norm [C]."""
        return self.tensors[f"{name}.weight"]

    def replace(self, name: str, weight: Tensor) -> None:
        """Give a linear or a norm another weight."""
        self.tensors[f"{name}.weight"] = weight

    def copy(self) -> Layer:
        """Another layer with the same tensors, none of them copied."""
        twin = Layer(self.config, self.tensors)
        twin.fused = self.fused
        return twin

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x [S, K] -> [S, N]."""
        return F.linear(x, self.weight(name), self.tensors.get(f"{name}.bias"))

    def sources(self) -> dict[str, tuple[str, ...]]:
        """The checkpoint's linear -> the parts that it holds, row behind row."""
        inside = {part for name in self.fused for part in FUSED[name]}
        own = {name: (name,) for name in LINEARS if name not in inside}
        return own | {name: FUSED[name] for name in self.fused}

    def _split(self, name: str) -> None:
        config = self.config
        sizes = {Q: config.query_size, K: config.kv_size, V: config.kv_size}
        rows = [sizes.get(part, config.intermediate_size) for part in FUSED[name]]
        for kind in ("weight", "bias"):
            whole = self.tensors.pop(f"{name}.{kind}", None)
            if whole is not None:
                for part, tensor in zip(FUSED[name], whole.split(rows), strict=True):
                    self.tensors[f"{part}.{kind}"] = tensor


class Prompts:
    """Sequences laid one behind the other, [S] rows in all, with their rotations."""

    def __init__(self, config: LlamaConfig, lengths: list[int], device: torch.device) -> None:
        self.lengths = lengths
        halves = Rotations(config, max(lengths)).halves.to(device)
        self.cos, self.sin = (half[:, None] for half in halves.unbind(1))  # [T, 1, D/2]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Causal attention of each sequence to itself: [S, H, D], [S, kv, D] twice -> [S, H D]."""
        split = [part.split(self.lengths) for part in (query, key, value)]
        mixed = []
        for first in range(0, len(self.lengths), SEQUENCES_AT_ONCE):
            some = slice(first, first + SEQUENCES_AT_ONCE)
            # Padding stands behind the tokens, where a causal mask hides it from all of them.
            q, k, v = (pad_sequence(part[some], batch_first=True) for part in split)
            out = F.scaled_dot_product_attention(
                self._rotated(q).transpose(1, 2),
                self._rotated(k).transpose(1, 2),
                v.transpose(1, 2),
                is_causal=True,
                enable_gqa=True,
            )
            rows = out.transpose(1, 2).flatten(2)
            mixed += [row[:length] for row, length in zip(rows, self.lengths[some], strict=True)]
        return torch.cat(mixed)

    def _rotated(self, heads: Tensor) -> Tensor:
        """RoPE on [B, T, H, D]."""
        low, high = heads.chunk(2, dim=-1)
        cos, sin = self.cos[: heads.shape[1]], self.sin[: heads.shape[1]]
        return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x * weight / sqrt(mean(x^2) + eps) over the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def walk(layer: Layer, hidden: Tensor, prompts: Prompts, visit: Visit | None = None) -> Tensor:
    """Run hidden states f32 [S, C] through a layer; each group is visited before it is multiplied.

    What a visit replaces is what the walk goes on with: later inputs come from quantized weights.
    """
    see = visit or (lambda *_: None)
    attention_in, mixed_in, mlp_in, inner_in = SCALE_GROUPS
    x = rms_norm(hidden, layer.weight(INPUT_NORM), layer.config.rms_norm_eps)
    see(attention_in, x)
    mixed = prompts.attend(*_heads(layer, x))
    see(mixed_in, mixed)
    hidden = hidden + layer.linear(O, mixed)
    x = rms_norm(hidden, layer.weight(MLP_NORM), layer.config.rms_norm_eps)
    see(mlp_in, x)
    inner = F.silu(layer.linear(GATE, x)).mul_(layer.linear(UP, x))
    see(inner_in, inner)
    return hidden + layer.linear(DOWN, inner)


def _heads(layer: Layer, x: Tensor) -> list[Tensor]:
    """q, k and v as [S, heads, D], with Qwen's norms where a layer has them."""
    heads = []
    for name, norm in ((Q, "self_attn.q_norm"), (K, "self_attn.k_norm"), (V, None)):
        part = layer.linear(name, x).unflatten(-1, (-1, layer.config.head_dim))
        if norm is not None and f"{norm}.weight" in layer.tensors:
            part = rms_norm(part, layer.weight(norm), layer.config.rms_norm_eps)
        heads.append(part)
    return heads
