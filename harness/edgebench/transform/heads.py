"""Pruning attention heads: the query heads of a key-value head go together with it.

    S_g = || X_g W_g^T ||_F^2     X_g: what the group's heads feed to o_proj, W_g: its columns there

That is the energy of what the layer would lose. Every layer loses as many groups, its own lowest,
because one engine runs all layers in one shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgebench.transform.llama_layer import Layer
from edgebench.transform.scale_groups import K, O, Q, V

READER = O
"""The linear whose inputs go with a head."""
READS = V
"""The feeder of the group whose input the scores are taken from."""


def scores(layer: Layer, x: Tensor) -> Tensor:
    """S of each key-value head, [kv heads]; x [S, H D] is what o_proj reads."""
    groups = layer.config.kv_heads
    parts = zip(x.chunk(groups, dim=1), layer.weight(O).chunk(groups, dim=1), strict=True)
    energy = [((w @ (own.T @ own)) * w).sum() for own, w in parts]
    return torch.stack(energy)


def inputs(layer: Layer, keep: Tensor) -> Tensor:
    """Which inputs of o_proj stay, bool [H D], of the groups bool [kv heads]."""
    config = layer.config
    return keep.repeat_interleave(config.heads // config.kv_heads * config.head_dim)


def cut(layer: Layer, keep: Tensor) -> None:
    """Leave only the groups that `keep` [kv heads] names, in order."""
    config = layer.config
    shared = config.heads // config.kv_heads * config.head_dim
    for name, width in ((Q, shared), (K, config.head_dim), (V, config.head_dim)):
        rows = keep.repeat_interleave(width)
        for kind in ("weight", "bias"):
            tensor = layer.tensors.get(f"{name}.{kind}")
            if tensor is not None:
                layer.tensors[f"{name}.{kind}"] = tensor[rows]
    layer.replace(O, layer.weight(O)[:, inputs(layer, keep)].contiguous())
