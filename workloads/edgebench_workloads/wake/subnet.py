"""One subnet on its own: plain convolutions with biases, the norms folded in, safetensors on disk.

A file holds `<layer>.weight` [outputs, inputs / groups, kernel, kernel] and `<layer>.bias` for the
layers of `genome.layers`, in fp16, and `config.json` beside it the genome. This is what runs, what
is quantized and what a checker cuts from the supernet again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from edgebench_workloads.wake.genome import Genome, Layer, genome_from_json, is_residual, layers
from edgebench_workloads.wake.supernet import EPSILON, Convolution, ElasticBlock, Norm, Supernet

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "edgebench-wake"

Tensors = Mapping[str, Tensor]
Multiply = Callable[[Layer, Tensor], Tensor]
"""Runs one layer on [B, C, H, W], bias included."""
CLAMP = (0.0, 6.0)  # of relu6


def cut(net: Supernet, genome: Genome) -> dict[str, Tensor]:
    """The tensors of one subnet, fp32; the supernet's norms must be calibrated to it.

    Raises ValueError where they are not.
    """
    found: dict[str, Tensor] = {}
    _fold(found, "stem", net.stem.weight, net.stem.norm)
    for stage, place, size, expansion in genome.blocks():
        block = net.stages[stage][place]
        assert isinstance(block, ElasticBlock)
        name = f"stages.{stage}.{place}"
        expand, depthwise, project = block.weights_of(size, expansion)
        _fold(found, f"{name}.expand", expand, block.expand_norm)
        _fold(found, f"{name}.depthwise", depthwise, block.depthwise_norm)
        _fold(found, f"{name}.project", project, block.project_norm)
    assert isinstance(net.head, Convolution)
    _fold(found, "head", net.head.weight, net.head.norm)
    weight = net.classifier.weight.detach()
    found["classifier.weight"] = weight[:, :, None, None].clone()
    found["classifier.bias"] = net.classifier.bias.detach().clone()
    return found


def _fold(found: dict[str, Tensor], name: str, weight: Tensor, norm: Norm) -> None:
    if norm.statistics is None or len(norm.statistics[0]) != len(weight):
        raise ValueError(f"[wake] expected norms calibrated to the subnet, got others at {name}")
    mean, variance = norm.statistics
    channels = len(weight)
    factor = norm.weight.detach()[:channels] / torch.sqrt(variance + EPSILON)
    found[f"{name}.weight"] = (weight.detach() * factor[:, None, None, None]).clone()
    found[f"{name}.bias"] = norm.bias.detach()[:channels] - mean * factor


def convolution(tensors: Tensors) -> Multiply:
    """Every layer by torch, with these tensors."""

    def run(layer: Layer, x: Tensor) -> Tensor:
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        return F.conv2d(x, weight, bias, layer.stride, layer.kernel // 2, 1, layer.groups)

    return run


def forward(
    genome: Genome, multiply: Multiply, images: Tensor, *, is_clamped: bool = False
) -> Tensor:
    """Run a subnet: [B, 1, R, R] in -1..1 -> logits [B, 2].

    is_clamped: `multiply` ends with relu6 itself, behind the layers that have it.
    """
    plan = {layer.name: layer for layer in layers(genome)}

    def run(name: str, x: Tensor) -> Tensor:
        y = multiply(plan[name], x)
        return y if is_clamped or not plan[name].is_clamped else F.relu6(y, inplace=True)

    x = run("stem", images)
    for stage, place, _, _ in genome.blocks():
        name = f"stages.{stage}.{place}"
        y = run(f"{name}.project", run(f"{name}.depthwise", run(f"{name}.expand", x)))
        x = x + y if is_residual(stage, place) else y
    pooled = run("head", x).mean((2, 3), keepdim=True)
    return run("classifier", pooled).flatten(1)


def write(folder: Path, genome: Genome, tensors: Tensors) -> None:
    """Write one subnet into a new folder, its tensors as fp16."""
    folder.mkdir(parents=True)
    config = {"model_type": MODEL_TYPE, "genome": genome.as_json()}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    half = {name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}
    save_file(half, folder / WEIGHTS)


def read(folder: Path) -> tuple[Genome, dict[str, Tensor]]:
    """Read one subnet, its tensors as fp32; ValueError where they are not the genome's."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("model_type") != MODEL_TYPE:
        found = config.get("model_type")
        raise ValueError(f"[wake] expected model_type {MODEL_TYPE!r} in {folder}, got {found!r}")
    genome = genome_from_json(config["genome"])
    tensors = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    expected = shapes(genome)
    came = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if came != expected:
        names = sorted(
            name for name in expected.keys() | came.keys() if expected.get(name) != came.get(name)
        )
        raise ValueError(f"[wake] expected the tensors of the genome, got others at {names[:3]}")
    return genome, tensors


def shapes(genome: Genome) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a subnet."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in layers(genome):
        inputs = layer.inputs // layer.groups
        found[f"{layer.name}.weight"] = (layer.outputs, inputs, layer.kernel, layer.kernel)
        found[f"{layer.name}.bias"] = (layer.outputs,)
    return found
