"""Equivalence scales recomputed: from the reference's own activations, by AWQ's or SmoothQuant's
formula, with the exponent that the ledger says was chosen.

    awq          s = mean|x|^r / sqrt(max s min s)                        r in {0, 1/20, ..., 19/20}
    smoothquant  s = max|x|^a / max|w|^(1 - a)       a as given, or searched in {0, 1/20, ..., 1}

A norm stays fp16: it must be fp16(n / s) bit for bit, and s the ratio of the two in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgebench.checker.llama import Layer
from edgebench.checker.recipe import Recipe
from edgebench.profiles import SCALE_TOLERANCE
from edgebench.transform.constants import (
    ALPHA_STEPS,
    AWQ_EXPONENT_STEPS,
    AWQ_SMALLEST_SCALE,
    LARGEST_RATIO,
    SMALLEST_MAXIMUM,
)
from edgebench.transform.scale_groups import ScaleGroup, V
from edgebench_kernels.engine.config import LlamaConfig

FP16_ROUNDING = 2.0**-10  # a neighbour in fp16 is at most so far, relatively

Floats = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """What the test says of one feeder's scales."""

    path: str
    fault: str | None
    deviation: float
    """Largest relative difference from the recomputed scales, where shapes allow one."""
    scale: Floats
    """Of the readers' channels [K]: those declared, or 1 where they cannot be used."""


def handles(recipe: Recipe, group: ScaleGroup) -> bool:
    """Whether the recipe's smoother scales a group."""
    return recipe.smooth == "awq" or (recipe.smooth == "smoothquant" and group.feeder_is_norm)


def statistic(recipe: Recipe, x: Floats) -> Floats:
    """What the formula needs of the inputs f32 [S, K]: mean|x| or max|x|, [K]."""
    magnitude = np.abs(x)
    if recipe.smooth == "awq":
        return np.asarray(magnitude.mean(axis=0, dtype=np.float64), np.float32)
    largest: Floats = magnitude.max(axis=0)
    return largest


def examine(
    prefix: str, group: ScaleGroup, layer: Layer, statistics: Floats, recipe: Recipe, folded: Arrays
) -> Scaled:
    """Compare the declared scales of one group with those recomputed; layer is the reference's."""
    path = prefix + group.feeder
    unit = np.ones(len(statistics), np.float32)
    given = _channels(folded.get(f"{path}.scale"), group, layer.config, len(unit))
    if given is None:
        fault = f"no usable scales of {path}"
        return Scaled(path=path, fault=fault, deviation=np.inf, scale=unit)
    exponent = recipe.choices.get(path)
    if exponent is None or not _is_on_grid(recipe, exponent):
        fault = f"an exponent of {exponent} for {path}"
        return Scaled(path=path, fault=fault, deviation=np.inf, scale=given)
    expected = _candidate(recipe, group, layer, statistics, exponent)
    limit = SCALE_TOLERANCE
    if group.feeder_is_norm:
        norm = layer.weight(group.feeder)
        expected = _carried(norm, expected)
        limit += FP16_ROUNDING
        if not _is_carried(norm, given, folded.get(f"{path}.weight")):
            fault = f"a norm {path} that is not the reference's over its scales"
            return Scaled(path=path, fault=fault, deviation=np.inf, scale=given)
    else:
        expected = _bounded(expected)
        if not _is_bias_divided(group, layer, given, folded.get(f"{path}.bias")):
            fault = f"a bias of {path} that is not the reference's over its scales"
            return Scaled(path=path, fault=fault, deviation=np.inf, scale=given)
    deviation = float(np.abs(given / expected - 1).max())
    off = None if deviation <= limit else f"scales of {path} up to {deviation:.1%} off"
    return Scaled(path=path, fault=off, deviation=deviation, scale=given)


def fold(layer: Layer, group: ScaleGroup, scale: Floats) -> None:
    """Readers' columns times the scales [K], their feeder divided by them; order as there."""
    for reader in group.readers:
        layer.replace(reader, layer.weight(reader) * scale)
    feeder = layer.weight(group.feeder)
    if group.feeder_is_norm:
        layer.replace(group.feeder, (feeder / scale).astype(np.float16).astype(np.float32))
        return
    rows = _rows(group, layer, scale)
    layer.replace(group.feeder, feeder / rows[:, None])
    bias = layer.tensors.get(f"{group.feeder}.bias")
    if bias is not None:
        layer.tensors[f"{group.feeder}.bias"] = bias / rows


def _rows(group: ScaleGroup, layer: Layer, scale: Floats) -> Floats:
    """The scale of each output of a feeding linear, from those of the readers' channels [K]."""
    if group.feeder != V:
        return scale
    config = layer.config
    return scale.reshape(config.kv_heads, -1, config.head_dim)[:, 0].reshape(-1)


def _is_bias_divided(
    group: ScaleGroup, layer: Layer, scale: Floats, folded: npt.NDArray[np.generic] | None
) -> bool:
    """Whether the folded bias is fp16(bias / scale), where there is one."""
    bias = layer.tensors.get(f"{group.feeder}.bias")
    if bias is None or folded is None:
        return bias is folded
    divided = (bias / _rows(group, layer, scale)).astype(np.float16)
    return folded.dtype == np.float16 and np.array_equal(divided, folded)


def _is_on_grid(recipe: Recipe, exponent: float) -> bool:
    if recipe.alpha is not None:
        return exponent == recipe.alpha
    if recipe.smooth == "awq":
        return exponent in {step / AWQ_EXPONENT_STEPS for step in range(AWQ_EXPONENT_STEPS)}
    return exponent in {step / ALPHA_STEPS for step in range(ALPHA_STEPS + 1)}


def _candidate(
    recipe: Recipe, group: ScaleGroup, layer: Layer, statistics: Floats, exponent: float
) -> Floats:
    power = np.float32(exponent)
    if recipe.smooth == "awq":
        shared = _shared(statistics, group, layer.config)
        scale = np.maximum(shared**power, np.float32(AWQ_SMALLEST_SCALE))
        balanced: Floats = scale / np.sqrt(scale.max() * scale.min())
        return balanced
    largest_x = np.maximum(statistics, np.float32(SMALLEST_MAXIMUM))
    largest_w = np.max([np.abs(layer.weight(name)).max(axis=0) for name in group.readers], axis=0)
    rest = np.float32(1 - exponent)
    moved: Floats = largest_x**power / np.maximum(largest_w, np.float32(SMALLEST_MAXIMUM)) ** rest
    return moved


def _shared(values: Floats, group: ScaleGroup, config: LlamaConfig) -> Floats:
    """Channels that read one output of v (GQA) share their mean."""
    if group.feeder != V or config.heads == config.kv_heads:
        return values
    heads = values.reshape(config.kv_heads, -1, config.head_dim)
    return np.broadcast_to(heads.mean(axis=1, keepdims=True), heads.shape).reshape(-1)


def _channels(
    array: npt.NDArray[np.generic] | None, group: ScaleGroup, config: LlamaConfig, count: int
) -> Floats | None:
    """The declared scales for each of the readers' channels; None where they are no scales."""
    size = config.kv_size if group.feeder == V else count
    if array is None or array.dtype != np.float32 or array.shape != (size,):
        return None
    scale = array.astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        return None
    if group.feeder != V:
        return scale
    heads = scale.reshape(config.kv_heads, 1, config.head_dim)
    return heads.repeat(config.heads // config.kv_heads, axis=1).reshape(-1)


def _bounded(scale: Floats) -> Floats:
    sane = np.where(np.isfinite(scale) & (scale > 0), scale, np.float32(1))
    return np.clip(sane, np.float32(1 / LARGEST_RATIO), np.float32(LARGEST_RATIO))


def _carried(norm: Floats, scale: Floats) -> Floats:
    """The scales nearest to those wanted that a norm in fp16 can carry."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        folded = (norm / _bounded(scale)).astype(np.float16).astype(np.float32)
        is_normal = np.isfinite(folded) & (np.abs(folded) >= np.finfo(np.float16).tiny)
        return np.where(is_normal, norm / folded, np.float32(1))


def _is_carried(norm: Floats, scale: Floats, folded: npt.NDArray[np.generic] | None) -> bool:
    """Whether fp16(norm / scale) is the folded norm, and scale the ratio of the two."""
    if folded is None or folded.dtype != np.float16 or folded.shape != norm.shape:
        return False
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        other = (norm / scale).astype(np.float16)
        ratio = norm / folded.astype(np.float32)
    is_ratio = (ratio == scale) | ((scale == 1) & (folded == norm))
    return bool(np.array_equal(other, folded) and is_ratio.all())
