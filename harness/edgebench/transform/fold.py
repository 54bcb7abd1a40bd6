"""Equivalence scales: readers' columns times s, their feeder divided by s, the function unchanged.

A norm's weight is stored in fp16, so s is chosen such that it is: with n' = fp16(n / s) the scale
is n / n' to float32, and a verifier can compute it again from the two norms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench.transform.constants import LARGEST_RATIO
from edgebench.transform.grid import GridForm
from edgebench.transform.llama_layer import Layer
from edgebench.transform.scale_groups import ScaleGroup, V

SEARCH_TOKENS = 512  # llm-awq auto_clip.py: 512 tokens, evenly spread, decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The scales of one group, f32 [K], and the exponent that made them (r of AWQ, alpha)."""

    scale: Tensor
    exponent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """What a search sees of one group: the layer, and the input of its readers, f32 [S, K]."""

    group: ScaleGroup
    layer: Layer
    x: Tensor
    form: GridForm

    @property
    def weights(self) -> list[Tensor]:
        """The readers' weights, each [N, K]."""
        return [self.layer.weight(name) for name in self.group.readers]

    @property
    def norm(self) -> Tensor | None:
        """The feeding norm's weight [K]; None where a linear feeds."""
        return self.layer.weight(self.group.feeder) if self.group.feeder_is_norm else None

    def sample(self) -> Tensor:
        """At most SEARCH_TOKENS rows of x, evenly spread."""
        rows = self.x.shape[0]
        count = min(SEARCH_TOKENS, rows)
        at = torch.arange(count, device=self.x.device) * rows // count
        return self.x.index_select(0, at)


def bounded(scale: Tensor) -> Tensor:
    """The scales with everything that is no sane positive number set to 1 or to the bound."""
    finite = torch.where(torch.isfinite(scale) & (scale > 0), scale, torch.ones_like(scale))
    return finite.clamp(1 / LARGEST_RATIO, LARGEST_RATIO)


def settled(scale: Tensor, norm: Tensor | None) -> Tensor:
    """The scales nearest to those wanted that a norm in fp16 can carry; norm [K] or None."""
    if norm is None:
        return bounded(scale)
    folded = (norm / bounded(scale)).half().float()
    is_carried = torch.isfinite(folded) & (folded.abs() >= torch.finfo(torch.float16).tiny)
    return torch.where(is_carried, norm / folded, torch.ones_like(norm))


def folded_norm(norm: Tensor, scale: Tensor) -> Tensor:
    """The fp16 weight that carries settled scales, as float32."""
    return (norm / scale).half().float()


def shared(values: Tensor, group: ScaleGroup, layer: Layer) -> Tensor:
    """Channel values [K] made equal where channels come from one output of the feeder (GQA).

    A v output is read by every query head of its group, so those channels share the mean.
    """
    config = layer.config
    repeats = config.heads // config.kv_heads
    if group.feeder != V or repeats == 1:
        return values
    heads = values.view(config.kv_heads, repeats, config.head_dim)
    return heads.mean(1, keepdim=True).expand_as(heads).reshape(-1)


def feeder_rows(scale: Tensor, group: ScaleGroup, layer: Layer) -> Tensor:
    """The scale of each output of a feeding linear, from those of the readers' channels [K]."""
    config = layer.config
    if group.feeder != V:
        return scale
    return scale.view(config.kv_heads, -1, config.head_dim)[:, 0].reshape(-1)


def apply_fold(layer: Layer, group: ScaleGroup, scale: Tensor) -> None:
    """Fold settled scales [K] into a layer."""
    for reader in group.readers:
        layer.replace(reader, layer.weight(reader) * scale)
    feeder = layer.weight(group.feeder)
    if group.feeder_is_norm:
        layer.replace(group.feeder, folded_norm(feeder, scale))
        return
    rows = feeder_rows(scale, group, layer)
    layer.replace(group.feeder, feeder / rows[:, None])
    bias = layer.tensors.get(f"{group.feeder}.bias")
    if bias is not None:
        layer.tensors[f"{group.feeder}.bias"] = bias / rows
