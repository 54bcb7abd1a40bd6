"""What a subnet costs on paper: multiply-accumulates, parameters, peak activation memory."""

from __future__ import annotations

from edgebench_workloads.wake.genome import Genome, Layer, is_residual, layers


def total_macs(genome: Genome) -> int:
    """Multiply-accumulates for one image, all layers; additions of residuals apart."""
    return sum(layer.macs for layer in layers(genome))


def total_parameters(genome: Genome) -> int:
    """Weights and biases, the norms folded in."""
    return sum(layer.weights + layer.outputs for layer in layers(genome))


def is_product(layer: Layer) -> bool:
    """Whether a layer is a matrix product: a 1x1 convolution, or the classifier."""
    return layer.kernel == 1 and layer.groups == 1


def products(genome: Genome) -> list[Layer]:
    """The layers that are matrix products."""
    return [layer for layer in layers(genome) if is_product(layer)]


def convolutions(genome: Genome) -> list[Layer]:
    """The other layers: the stem and the depthwise convolutions."""
    return [layer for layer in layers(genome) if not is_product(layer)]


def peak_activations(genome: Genome) -> int:
    """Activations held at once, at most: a layer's input, its output, and a shortcut kept beside.

    MCUNet's definition (arXiv:2007.10319, section 3): layer by layer, without fusing blocks and
    without its in-place depthwise convolution. At one byte each these are the bytes that it counts.
    """
    peak = shortcut = 0
    inputs, side = 1, genome.resolution
    for layer in layers(genome):
        size_in, size_out = inputs * side**2, layer.outputs * layer.side**2
        name = layer.name.rpartition(".")
        if name[2] == "expand":
            _, stage, place = name[0].split(".")
            shortcut = size_in if is_residual(int(stage), int(place)) else 0
        held = shortcut if name[2] in ("depthwise", "project") else 0  # expand reads it itself
        peak = max(peak, size_in + size_out + held)
        inputs, side = layer.outputs, layer.side
    return peak
