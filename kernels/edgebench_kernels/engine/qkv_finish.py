"""What some families do to q, k, v before attention: Qwen2 adds a bias, Qwen3 norms each head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgebench_kernels.engine.config import LlamaConfig

_QKV = ("q_proj", "k_proj", "v_proj")


class QkvFinish:
    """In place on the fused product f32 [S, (H + 2 kv_heads) D], in transformers' order."""

    def __init__(self, config: LlamaConfig, tensors: Mapping[str, Tensor], layer: int) -> None:
        attention = f"model.layers.{layer}.self_attn."
        self._bias: Tensor | None = None
        self._norms: Tensor | None = None
        self._eps = config.rms_norm_eps
        self._normed = config.query_size + config.kv_size
        if config.has_qkv_bias:
            self._bias = torch.cat([tensors[f"{attention}{part}.bias"] for part in _QKV]).float()
        if config.has_head_norms:
            query = tensors[attention + "q_norm.weight"].float().expand(config.heads, -1)
            key = tensors[attention + "k_norm.weight"].float().expand(config.kv_heads, -1)
            self._norms = torch.cat([query, key])  # [H + kv_heads, D]

    @staticmethod
    def of(config: LlamaConfig, tensors: Mapping[str, Tensor], layer: int) -> QkvFinish | None:
        """None for a family that hands q, k and v to attention as they are."""
        is_needed = config.has_qkv_bias or config.has_head_norms
        return QkvFinish(config, tensors, layer) if is_needed else None

    def __call__(self, qkv: Tensor) -> Tensor:
        """The same tensor, finished."""
        if self._bias is not None:
            qkv.add_(self._bias)
        if self._norms is not None:
            heads = qkv[:, : self._normed].unflatten(1, self._norms.shape)
            scale = heads.square().mean(-1, keepdim=True).add_(self._eps).rsqrt_()
            heads.mul_(scale).mul_(self._norms)
        return qkv
