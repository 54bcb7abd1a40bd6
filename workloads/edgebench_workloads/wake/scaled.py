"""The largest subnet's architecture with all channels scaled: a width multiplier's networks.

What a search must beat. Channel counts are rounded as MobileNetV2's are (arXiv:1801.04381), to
multiples of 4 here, as the narrowest layer of the whole width has 8.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from edgebench_workloads.wake.genome import (
    CLASSES,
    EXPANSIONS,
    HEAD_CHANNELS,
    MAX_DEPTH,
    STAGE_CHANNELS,
    STEM_CHANNELS,
    STEM_KERNEL,
    Genome,
    Layer,
    block_stride,
    is_residual,
    layers,
    make_genome,
)
from edgebench_workloads.wake.subnet import Multiply
from edgebench_workloads.wake.supernet import Convolution, ElasticBlock, Norm, Supernet

MULTIPLE = 4
LEAST_SHARE = 0.9  # what is rounded down keeps so much


def channels(count: int, width: float) -> int:
    """A channel count scaled: a multiple of MULTIPLE near by, never a tenth below."""
    scaled = count * width
    rounded = max(MULTIPLE, int(scaled + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return rounded + MULTIPLE if rounded < LEAST_SHARE * scaled else rounded


def genome_at(resolution: int) -> Genome:
    """The largest subnet at a resolution: what a scaled network is but for its widths."""
    return make_genome(max, resolutions=[resolution])


class ScaledNet(Supernet):
    """The largest subnet with its channels scaled; `subnet.cut` cuts it as it cuts a supernet."""

    def __init__(self, width: float) -> None:
        nn.Module.__init__(self)
        inputs = channels(STEM_CHANNELS, width)
        self.stem = Convolution(1, inputs, STEM_KERNEL, 2)
        self.stages = nn.ModuleList()
        for stage, count in enumerate(STAGE_CHANNELS):
            blocks = nn.ModuleList()
            for place in range(MAX_DEPTH):
                outputs, residual = channels(count, width), is_residual(stage, place)
                blocks.append(ElasticBlock(inputs, outputs, block_stride(place), residual=residual))
                inputs = outputs
            self.stages.append(blocks)
        self.head = Convolution(inputs, channels(HEAD_CHANNELS, width), 1, 1)
        self.classifier = nn.Linear(channels(HEAD_CHANNELS, width), CLASSES)


def scaled_layers(width: float, resolution: int) -> list[Layer]:
    """Every layer as it runs, in order; names as those of the largest subnet."""
    found: list[Layer] = []
    inputs = 1
    for layer in layers(genome_at(resolution)):
        kind = layer.name.rpartition(".")[2]
        if kind == "expand":
            outputs = max(EXPANSIONS) * inputs
        elif kind == "depthwise":
            outputs = inputs
        else:
            outputs = layer.outputs if kind == "classifier" else channels(layer.outputs, width)
        groups = outputs if kind == "depthwise" else 1
        found.append(replace(layer, inputs=inputs, outputs=outputs, groups=groups))
        inputs = outputs
    return found


def scaled_multiply(multiply: Multiply, width: float, resolution: int) -> Multiply:
    """What runs the largest subnet's layers, given the scaled network's in their place."""
    own = {layer.name: layer for layer in scaled_layers(width, resolution)}

    def run(layer: Layer, x: Tensor) -> Tensor:
        return multiply(own[layer.name], x)

    return run


def sliced(net: Supernet, width: float) -> ScaledNet:
    """A scaled network that begins with a supernet's heaviest channels.

    Of the channels between blocks those stay whose projections weigh most, stage by stage; of a
    block's middle the first, since training has sorted them.
    """
    found = ScaledNet(width)
    with torch.no_grad():
        kept = _heaviest(net.stem.weight, len(found.stem.weight))
        _take(found.stem.weight, net.stem.weight[kept])
        _take_norm(found.stem.norm, net.stem.norm, kept)
        for blocks, own in zip(net.stages, found.stages, strict=True):
            weighed = sum(block.project.abs().sum((1, 2, 3)) for block in blocks)
            outputs = _heaviest(torch.as_tensor(weighed)[:, None], len(own[0].project))
            for block, small in zip(blocks, own, strict=True):
                _take_block(small, block, kept, outputs)
                kept = outputs
        heads = _heaviest(net.classifier.weight.T, len(found.head.weight))
        _take(found.head.weight, net.head.weight[heads][:, kept])
        _take_norm(found.head.norm, net.head.norm, heads)
        _take(found.classifier.weight, net.classifier.weight[:, heads])
        _take(found.classifier.bias, net.classifier.bias)
    return found


def _heaviest(weight: Tensor, count: int) -> Tensor:
    """The first axis's places with the largest sums, in order."""
    return weight.abs().flatten(1).sum(1).topk(count).indices.sort().values


def _take_block(small: ElasticBlock, block: ElasticBlock, inputs: Tensor, outputs: Tensor) -> None:
    middle = torch.arange(len(small.expand))
    _take(small.expand, block.expand[middle][:, inputs])
    _take(small.depthwise, block.depthwise[middle])
    _take(small.project, block.project[outputs][:, middle])
    _take_norm(small.expand_norm, block.expand_norm, middle)
    _take_norm(small.depthwise_norm, block.depthwise_norm, middle)
    _take_norm(small.project_norm, block.project_norm, outputs)


def _take(parameter: Tensor, values: Tensor) -> None:
    parameter.copy_(values)


def _take_norm(norm: Norm, other: Norm, kept: Tensor) -> None:
    norm.weight.copy_(other.weight[kept])
    norm.bias.copy_(other.bias[kept])
