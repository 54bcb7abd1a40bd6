"""Pruning a network of images in one pass: each layer with what the layers pruned so far compute.

Zeros (`magnitude`, `wanda`) fall on expand, depthwise, project and head; stem and classifier stay
whole, as embedding and lm_head do. K is a product's inputs, or a depthwise kernel's places (the
columns of im2col for its one channel). N:M needs a K that it divides: it falls on products alone.
`units` cuts middle channels of inverted bottlenecks: a row of expand and depthwise, a column of
project, whose other columns and bias make up for it. Nothing draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from edgebench.errors import SpecError
from edgebench.images.network import Network, rounded
from edgebench.images.request import cut_genome, is_pruned
from edgebench.transform import magnitude
from edgebench.transform.masks import keep_highest, keep_rows
from edgebench.transform.pruning import Pattern, PruneRequest
from edgebench.transform.refit import refitted
from edgebench_workloads.wake.genome import Genome, Layer, layers
from edgebench_workloads.wake.subnet import forward

Progress = Callable[[int, int], None]


def prune(
    network: Network, request: PruneRequest, images: Tensor, progress: Progress | None = None
) -> Network:
    """One step; images f32 [B, 1, R, R] are calibration images, unused by magnitude.

    Raises SpecError for a share that removes nothing, RunFailed where a refit has no factor.
    """
    with torch.inference_mode():
        if request.method == "magnitude":
            made = _by_magnitude(network, request)
        elif request.method == "wanda":
            made = _by_wanda(network, request, images, progress)
        else:
            return _narrower(network, request, images, progress)
    return rounded(network.genome, made, "prune")


def _pattern(request: PruneRequest) -> Pattern:
    if request.pattern is None:
        raise SpecError(f"[prune] expected a pattern for {request.method}, got none")
    return request.pattern


def _by_magnitude(network: Network, request: PruneRequest) -> dict[str, Tensor]:
    pattern = _pattern(request)
    names = [f"{one.name}.weight" for one in layers(network.genome) if is_pruned(one, pattern)]
    flat = {name: network.tensors[name].flatten(1) for name in names}
    made = magnitude.pruned(flat, pattern, request.scope)
    shaped = {name: one.view_as(network.tensors[name]) for name, one in made.items()}
    return {**network.tensors, **shaped}


def _by_wanda(
    network: Network, request: PruneRequest, images: Tensor, progress: Progress | None
) -> dict[str, Tensor]:
    pattern, tensors = _pattern(request), dict(network.tensors)
    told = _Teller(network.genome, progress)

    def multiply(layer: Layer, x: Tensor) -> Tensor:
        weight = tensors[f"{layer.name}.weight"]
        if is_pruned(layer, pattern):
            flat = weight.flatten(1)
            keep = keep_rows(flat.abs() * input_norms(layer, x), pattern)
            weight = torch.where(keep, flat, torch.zeros_like(flat)).view_as(weight)
            tensors[f"{layer.name}.weight"] = weight
        told()
        return convolved(layer, x, weight, tensors[f"{layer.name}.bias"])

    forward(network.genome, multiply, images)
    return tensors


def input_norms(layer: Layer, x: Tensor) -> Tensor:
    """The norm of what each weight of a row multiplies: [K], or [C, k*k] of depthwise kernels.

    x [B, C, H, W], in front of the layer.
    """
    if layer.groups == 1:
        return x.square().sum((0, 2, 3)).sqrt()
    edge, side, stride = layer.kernel // 2, layer.side, layer.stride
    padded = F.pad(x.square().sum(0), (edge, edge, edge, edge))
    last = stride * (side - 1) + 1
    sums = [
        padded[:, row : row + last : stride, column : column + last : stride].sum((1, 2))
        for row in range(layer.kernel)
        for column in range(layer.kernel)
    ]
    return torch.stack(sums, 1).sqrt()


def convolved(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One layer by torch."""
    groups = weight.shape[0] if layer.groups > 1 else 1
    return F.conv2d(x, weight, bias, layer.stride, layer.kernel // 2, 1, groups)


def _narrower(
    network: Network, request: PruneRequest, images: Tensor, progress: Progress | None
) -> Network:
    """Cut the same share of every block's middle channels, its own lowest."""
    genome = cut_genome(network.genome, request.share)
    left = {layer.name: layer.inputs for layer in layers(genome)}
    tensors, told = dict(network.tensors), _Teller(network.genome, progress)

    def multiply(layer: Layer, x: Tensor) -> Tensor:
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        told()
        if not layer.name.endswith(".project") or left[layer.name] == layer.inputs:
            return convolved(layer, x, weight, bias)
        rows = x.permute(0, 2, 3, 1).reshape(-1, layer.inputs)
        scores = rows.square().sum(0) * weight.flatten(1).square().sum(0)
        keep = keep_highest(scores, layer.inputs - left[layer.name])
        block = layer.name.removesuffix(".project")
        for part in ("expand", "depthwise"):
            for kind in ("weight", "bias"):
                tensors[f"{block}.{part}.{kind}"] = tensors[f"{block}.{part}.{kind}"][keep]
        cut, bias = _made_up(weight.flatten(1), bias, rows, keep, is_refit=request.refit)
        tensors[f"{layer.name}.weight"] = cut[:, :, None, None]
        tensors[f"{layer.name}.bias"] = bias
        return convolved(layer, x[:, keep], cut[:, :, None, None], bias)

    forward(network.genome, multiply, images)
    return rounded(genome, tensors, "prune")


def _made_up(
    weight: Tensor, bias: Tensor, rows: Tensor, keep: Tensor, *, is_refit: bool
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a project that reads fewer channels; the bias keeps the outputs' mean."""
    if not is_refit:
        return weight[:, keep], bias
    mean = rows.mean(0)
    made = refitted(weight, rows - mean, keep)
    return made, bias + weight @ mean - made @ mean[keep]


class _Teller:
    """Says how many layers are done."""

    def __init__(self, genome: Genome, progress: Progress | None) -> None:
        self._done, self._total = 0, len(layers(genome))
        self._progress = progress

    def __call__(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
