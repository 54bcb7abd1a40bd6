"""Pruning FFN units: a row of gate and up, and the column of down that reads it.

    S_u = ||X_u||_2^2 ||W_u||_2^2     X_u: the unit's activations, W_u: its column of down_proj

That is exactly || X_u W_u^T ||_F^2, the energy of what the layer would lose. Every layer loses as
many units, its own lowest.
"""

from __future__ import annotations

from torch import Tensor

from edgebench.transform.llama_layer import Layer
from edgebench.transform.scale_groups import DOWN, GATE, UP

READER = DOWN
"""The linear whose inputs are the units."""
READS = UP
"""The feeder of the group whose input the scores are taken from."""


def scores(layer: Layer, x: Tensor) -> Tensor:
    """S of each unit, [I]; x [S, I] is what down_proj reads."""
    return x.square().sum(0) * layer.weight(DOWN).square().sum(0)


def inputs(layer: Layer, keep: Tensor) -> Tensor:
    """Which inputs of down_proj stay, bool [I]."""
    return keep


def cut(layer: Layer, keep: Tensor) -> None:
    """Leave only the units that `keep` [I] names, in order."""
    for name in (GATE, UP):
        layer.replace(name, layer.weight(name)[keep])
    layer.replace(DOWN, layer.weight(DOWN)[:, keep].contiguous())
