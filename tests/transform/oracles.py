"""The papers' formulas written out in float64 and loops, sharing no code with what they judge."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def grid(group: Array, levels: int = 15) -> tuple[float, float]:
    """Scale and zero point of one group of weights, the range made to contain 0."""
    low, high = min(group.min(), 0.0), max(group.max(), 0.0)
    scale = float(np.float16((high - low) / levels)) or 2.0**-24
    return scale, float(np.clip(np.rint(-low / scale), 0, levels))


def round_trip(weight: Array, size: int, levels: int = 15) -> Array:
    """Every weight [N, K] as its code stands for it."""
    out = np.empty_like(weight)
    for n in range(weight.shape[0]):
        for first in range(0, weight.shape[1], size):
            part = weight[n, first : first + size]
            scale, zero = grid(part, levels)
            code = np.clip(np.rint(part / scale) + zero, 0, levels)
            out[n, first : first + size] = (code - zero) * scale
    return out


def carried(scale: Array, norm: Array | None) -> Array:
    """The scales that a norm in fp16 really carries."""
    if norm is None:
        return scale
    return norm / (norm / scale).astype(np.float16).astype(np.float64)


def awq_errors(weights: list[Array], x: Array, size: int, norm: Array | None) -> list[float]:
    """|| Q(W s) (x / s) - W x ||^2 for each of AWQ's twenty exponents."""
    magnitude = np.abs(x).mean(0)
    errors = []
    for step in range(20):
        scale = np.maximum(magnitude ** (step / 20), 1e-4)
        scale = carried(scale / math.sqrt(scale.max() * scale.min()), norm)
        errors.append(
            sum(
                float((((x / scale) @ round_trip(w * scale, size).T - x @ w.T) ** 2).sum())
                for w in weights
            )
        )
    return errors


def clip_error(part: Array, limit: float, x: Array) -> float:
    """Squared error of one group's partial sums when its weights are clamped, then rounded."""
    clamped = np.clip(part, -limit, limit)
    scale, zero = grid(clamped)
    rough = (np.clip(np.rint(clamped / scale) + zero, 0, 15) - zero) * scale
    return float(((x @ (rough - part)) ** 2).sum())


def gptq(weight: Array, x: Array, grids: tuple[Array, Array], damping: float) -> NDArray[np.uint8]:
    """Codes by OBQ's own update: quantize a column, then take it out of H^-1 by elimination.

    grids: scale and zero of every column, [N, K] each. Columns go by falling diag H, to 2 %.
    """
    weight = weight.copy()
    hessian = x.T @ x / len(x)
    with np.errstate(divide="ignore"):
        order = np.argsort(-np.round(32 * np.log2(np.diag(hessian))), kind="stable")
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    hessian += damping * np.diag(hessian).mean() * np.eye(len(hessian))
    inverse = np.linalg.inv(hessian)
    codes = np.empty(weight.shape, dtype=np.uint8)
    for c in order:
        scale, zero = grids[0][:, c], grids[1][:, c]
        code = np.clip(np.rint(weight[:, c] / scale) + zero, 0, 15)
        codes[:, c] = code
        error = (weight[:, c] - (code - zero) * scale) / inverse[c, c]
        weight -= np.outer(error, inverse[c])
        inverse -= np.outer(inverse[:, c], inverse[c]) / inverse[c, c]
    return codes


def smooth_scales(x: Array, weights: list[Array], alpha: float) -> Array:
    """max|x_j|^alpha / max|w_j|^(1 - alpha), channel by channel."""
    out = np.empty(x.shape[1])
    for j in range(x.shape[1]):
        largest_x = max(np.abs(x[:, j]).max(), 1e-5)
        largest_w = max(*(np.abs(w[:, j]).max() for w in weights), 1e-5)
        out[j] = largest_x**alpha / largest_w ** (1 - alpha)
    return out


def rms(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def layer(tensors: dict[str, Array], hidden: Array, heads: int, kv: int, eps: float) -> Array:
    """One decoder layer on one sequence [T, C], head by head and token by token."""

    def linear(name: str, x: Array) -> Array:
        return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", 0.0)

    x = rms(hidden, tensors["input_layernorm.weight"], eps)
    q, k, v = (linear(f"self_attn.{part}_proj", x) for part in "qkv")
    size = q.shape[1] // heads
    mixed = np.zeros_like(q)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        theirs = slice(head // (heads // kv) * size, (head // (heads // kv) + 1) * size)
        query, key = q[:, own], k[:, theirs]
        if "self_attn.q_norm.weight" in tensors:
            query = rms(query, tensors["self_attn.q_norm.weight"], eps)
            key = rms(key, tensors["self_attn.k_norm.weight"], eps)
        query, key = rope(query), rope(key)
        for t in range(len(hidden)):
            scores = query[t] @ key[: t + 1].T / math.sqrt(size)
            weights = np.exp(scores - scores.max())
            mixed[t, own] = weights / weights.sum() @ v[: t + 1, theirs]
    hidden = hidden + linear("self_attn.o_proj", mixed)
    x = rms(hidden, tensors["post_attention_layernorm.weight"], eps)
    gate, up = linear("mlp.gate_proj", x), linear("mlp.up_proj", x)
    return hidden + linear("mlp.down_proj", gate / (1 + np.exp(-gate)) * up)


def rope(x: Array, theta: float = 10_000.0) -> Array:
    """Rotate the halves of [T, D] by position * theta^(-2 i / D)."""
    half = x.shape[1] // 2
    angle = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    low, high = x[:, :half], x[:, half:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=1)
