"""What a subnet costs on paper, against what it does when it runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgebench_workloads.draws import Draws
from edgebench_workloads.wake import subnet
from edgebench_workloads.wake.costs import (
    peak_activations,
    products,
    total_macs,
    total_parameters,
)
from edgebench_workloads.wake.genome import (
    LARGEST,
    SMALLEST,
    Genome,
    Layer,
    is_residual,
    layers,
    make_genome,
)

GENOMES = (LARGEST, SMALLEST, *(make_genome(Draws(f"costs/{i}").choose) for i in range(3)))


def run(genome: Genome) -> list[tuple[Layer, Tensor, Tensor]]:
    """Every layer with what it read and what it wrote for one image."""
    tensors = {name: torch.zeros(shape) for name, shape in subnet.shapes(genome).items()}
    convolve = subnet.convolution(tensors)
    seen = []

    def multiply(layer: Layer, x: Tensor) -> Tensor:
        y = convolve(layer, x)
        seen.append((layer, x, y))
        return y

    subnet.forward(genome, multiply, torch.zeros(1, 1, genome.resolution, genome.resolution))
    return seen


@pytest.mark.torch
@pytest.mark.parametrize("genome", GENOMES)
def test_macs_and_parameters_are_those_of_the_run(genome: Genome) -> None:
    shapes = subnet.shapes(genome)
    macs = sum(
        math.prod(shapes[f"{layer.name}.weight"]) * y.shape[2] * y.shape[3]
        for layer, _, y in run(genome)
    )
    assert total_macs(genome) == macs
    assert total_parameters(genome) == sum(map(math.prod, shapes.values()))


@pytest.mark.torch
@pytest.mark.parametrize("genome", GENOMES)
def test_the_peak_is_that_of_the_run(genome: Genome) -> None:
    peak = 0
    block_input: Tensor | None = None
    for layer, x, y in run(genome):
        kind = layer.name.rpartition(".")[2]
        if kind == "expand":
            stage, place = map(int, layer.name.split(".")[1:3])
            block_input = x if is_residual(stage, place) else None
        beside = block_input if kind in ("depthwise", "project") else None
        written = y if kind != "classifier" else y.flatten(1)
        held = x.numel() + written.numel() + (0 if beside is None else beside.numel())
        peak = max(peak, held)
    assert peak_activations(genome) == peak


def test_the_largest_peaks_in_its_first_depthwise_or_expansion() -> None:
    # Stage 0, block 1: 16 x 24 x 24 twice for expand ... the first block dominates: 8 x 48 x 48
    # in, 48 x 48 x 48 out of expand; the depthwise reads that and halves it.
    expand = 8 * 48**2 + 48 * 48**2
    depthwise = 48 * 48**2 + 48 * 24**2
    assert peak_activations(LARGEST) == max(expand, depthwise)


def test_products_are_the_1x1_layers() -> None:
    names = [layer.name for layer in products(LARGEST)]
    assert names == [one.name for one in layers(LARGEST) if one.name != "stem"
                     and not one.name.endswith("depthwise")]  # fmt: skip
