"""A Llama layer in NumPy: the reference, or the submission, on the calibration sequences.

float32 products by BLAS, and no torch. A visit sees what each group of linears reads, and may put
other weights in their place before they are multiplied: the walk goes on with those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgebench.transform.scale_groups import (
    DOWN,
    GATE,
    INPUT_NORM,
    MLP_NORM,
    SCALE_GROUPS,
    UP,
    K,
    O,
    Q,
    ScaleGroup,
    V,
)
from edgebench_kernels.engine.config import LlamaConfig

Floats = npt.NDArray[np.float32]
Visit = Callable[[ScaleGroup, Floats], None]
"""(group, the input of its readers f32 [S, K])."""

SEQUENCES_AT_ONCE = 32  # in attention, which pads them to the longest
HIDDEN_SCORE = np.float32(-1e30)  # of a token that comes later: its weight underflows to 0


class Layer:
    """Tensors in float32 by their names in the layer, `.weight` and `.bias` included."""

    def __init__(self, config: LlamaConfig, tensors: dict[str, Floats]) -> None:
        self.config = config
        self.tensors = tensors

    def weight(self, name: str) -> Floats:
        """The weight of a linear [N, K], or of a norm [C]."""
        return self.tensors[f"{name}.weight"]

    def replace(self, name: str, weight: Floats) -> None:
        """Give a linear or a norm another weight."""
        self.tensors[f"{name}.weight"] = weight

    def copy(self) -> Layer:
        """Another layer with the same tensors, none of them copied."""
        return Layer(self.config, dict(self.tensors))

    def linear(self, name: str, x: Floats) -> Floats:
        """x [S, K] -> [S, N]."""
        out: Floats = x @ self.weight(name).T
        bias = self.tensors.get(f"{name}.bias")
        if bias is not None:
            out += bias
        return out

    def norm(self, name: str, x: Floats) -> Floats:
        """RMSNorm over the last dimension."""
        mean = np.square(x).mean(axis=-1, keepdims=True) + np.float32(self.config.rms_norm_eps)
        scaled: Floats = x / np.sqrt(mean) * self.weight(name)
        return scaled


class Sequences:
    """The calibration sequences laid one behind the other, [S] tokens in all."""

    def __init__(self, config: LlamaConfig, ids: Sequence[Sequence[int]]) -> None:
        self.ids = np.array([token for row in ids for token in row])
        self._ends = np.cumsum([len(row) for row in ids])
        self._lengths = [len(row) for row in ids]
        angles = np.arange(max(self._lengths), dtype=np.float32)[:, None] * frequencies(config)
        self._cos, self._sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def attend(self, query: Floats, key: Floats, value: Floats) -> Floats:
        """Causal attention of each sequence to itself: [S, H, D], [S, kv, D] twice -> [S, H D]."""
        out = np.empty((query.shape[0], query.shape[1] * query.shape[2]), np.float32)
        for first in range(0, len(self._lengths), SEQUENCES_AT_ONCE):
            some = range(first, min(first + SEQUENCES_AT_ONCE, len(self._lengths)))
            q, k, v = (self._padded(part, some) for part in (query, key, value))
            mixed = _attention(self._rotated(q), self._rotated(k), v)
            for place, index in enumerate(some):
                end, length = self._ends[index], self._lengths[index]
                out[end - length : end] = mixed[place, :length]
        return out

    def _padded(self, heads: Floats, some: range) -> Floats:
        """[B, T, heads, D], zeros behind each sequence's last token."""
        longest = max(self._lengths[index] for index in some)
        padded = np.zeros((len(some), longest, *heads.shape[1:]), np.float32)
        for place, index in enumerate(some):
            end, length = self._ends[index], self._lengths[index]
            padded[place, :length] = heads[end - length : end]
        return padded

    def _rotated(self, heads: Floats) -> Floats:
        """RoPE on [B, T, heads, D]."""
        low, high = np.split(heads, 2, axis=-1)
        cos, sin = self._cos[: heads.shape[1]], self._sin[: heads.shape[1]]
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def walk(layer: Layer, hidden: Floats, sequences: Sequences, visit: Visit) -> Floats:
    """Run hidden states f32 [S, C] through a layer; each group is visited before its product."""
    attention_in, mixed_in, mlp_in, inner_in = SCALE_GROUPS
    x = layer.norm(INPUT_NORM, hidden)
    visit(attention_in, x)
    mixed = sequences.attend(*_heads(layer, x))
    visit(mixed_in, mixed)
    hidden = hidden + layer.linear(O, mixed)
    x = layer.norm(MLP_NORM, hidden)
    visit(mlp_in, x)
    gate = layer.linear(GATE, x)
    with np.errstate(over="ignore"):  # exp(-x) of a very negative gate: silu is 0
        inner = gate / (1 + np.exp(-gate)) * layer.linear(UP, x)
    visit(inner_in, inner)
    return hidden + layer.linear(DOWN, inner)


def frequencies(config: LlamaConfig) -> Floats:
    """Radians per position, f32 [D / 2]: as `edgebench_kernels.engine.rope` has them."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    plain: Floats = 1 / np.float32(config.rope_theta) ** exponents
    scaling = config.rope_scaling
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return np.asarray(plain / np.float32(scaling.factor), np.float32)
    waves = 2 * math.pi / plain
    low, high, length = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_length
    share = np.clip((length / waves - low) / (high - low), 0, 1)  # 0: slowed, 1: kept
    return np.asarray(((1 - share) / scaling.factor + share) * plain, np.float32)


def _heads(layer: Layer, x: Floats) -> list[Floats]:
    """q, k and v as [S, heads, D], with Qwen's norms where a layer has them."""
    heads = []
    for name, norm in ((Q, "self_attn.q_norm"), (K, "self_attn.k_norm"), (V, None)):
        part = layer.linear(name, x).reshape(len(x), -1, layer.config.head_dim)
        if norm is not None and f"{norm}.weight" in layer.tensors:
            part = layer.norm(norm, part)
        heads.append(part)
    return heads


def _attention(q: Floats, k: Floats, v: Floats) -> Floats:
    """[B, T, H, D] and [B, T, kv, D] twice -> [B, T, H D]; query heads share keys in order."""
    batch, tokens, heads, dim = q.shape
    shared = q.reshape(batch, tokens, k.shape[2], -1, dim).transpose(0, 2, 3, 1, 4)
    scores = shared @ k.transpose(0, 2, 3, 1)[:, :, None]  # [B, kv, H / kv, T, T]
    scores /= np.float32(math.sqrt(dim))
    scores += np.triu(np.full((tokens, tokens), HIDDEN_SCORE), 1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed = scores @ v.transpose(0, 2, 1, 3)[:, :, None]
    return np.ascontiguousarray(mixed.transpose(0, 3, 1, 2, 4)).reshape(batch, tokens, heads * dim)
