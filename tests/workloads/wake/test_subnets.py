"""The space, the supernet and what is cut from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgebench_workloads.draws import Draws
from edgebench_workloads.wake import subnet
from edgebench_workloads.wake.genome import (
    KERNELS,
    LARGEST,
    SMALLEST,
    Genome,
    genome_from_json,
    layers,
    make_genome,
)
from edgebench_workloads.wake.supernet import Supernet, calibrate

GENOMES = (LARGEST, SMALLEST, *(make_genome(Draws(f"subnet/{i}").choose) for i in range(4)))


def images(genome: Genome, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(genome.resolution)
    return torch.randn(count, 1, genome.resolution, genome.resolution, generator=generator)


@pytest.fixture(scope="module")
def net() -> Supernet:
    torch.manual_seed(1)
    made = Supernet()
    with torch.no_grad():
        for norm in made.norms():
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.2)
        for block in (block for stage in made.stages for block in stage):  # type: ignore[union-attr]
            for matrix in block.transforms.values():
                matrix.add_(torch.randn(matrix.shape) * 0.02)
    return made


@pytest.mark.parametrize("genome", GENOMES)
def test_a_cut_subnet_answers_as_within_the_supernet(
    net: Supernet, genome: Genome, tmp_path: Path
) -> None:
    calibrate(net, genome, [images(genome, 8)])
    inside = net(images(genome), genome)
    tensors = subnet.cut(net, genome)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == subnet.shapes(genome)
    alone = subnet.forward(genome, subnet.convolution(tensors), images(genome))
    assert torch.allclose(inside, alone, atol=2e-4)
    subnet.write(tmp_path / "model", genome, tensors)
    read_genome, read = subnet.read(tmp_path / "model")
    assert read_genome == genome
    halved = subnet.forward(genome, subnet.convolution(read), images(genome))
    assert torch.allclose(inside, halved, atol=0.1)


def test_norms_of_another_subnet_are_refused(net: Supernet) -> None:
    calibrate(net, SMALLEST, [images(SMALLEST)])
    with pytest.raises(ValueError, match="calibrated to the subnet"):
        subnet.cut(net, LARGEST)


def test_calibration_takes_the_average_not_the_last_batch(net: Supernet) -> None:
    batches = [images(SMALLEST, 8) * factor for factor in (1.0, 3.0)]
    calibrate(net, SMALLEST, [torch.cat(batches)])
    whole = net.stem.norm.statistics
    calibrate(net, SMALLEST, batches)
    parts = net.stem.norm.statistics
    assert whole is not None
    assert parts is not None
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_sorting_channels_changes_no_answer(net: Supernet) -> None:
    calibrate(net, LARGEST, [images(LARGEST)])
    before = net(images(LARGEST), LARGEST)
    net.sort_channels()
    calibrate(net, LARGEST, [images(LARGEST)])
    assert torch.allclose(before, net(images(LARGEST), LARGEST), atol=1e-4)
    block = net.stages[0][1]  # type: ignore[index]
    weights = block.project.abs().sum((0, 2, 3))
    assert bool((weights[:-1] >= weights[1:]).all())


def test_a_smaller_kernel_is_the_middle_of_the_larger() -> None:
    block = Supernet().stages[1][2]  # type: ignore[index]
    whole = block.kernel_of(7, 4)
    assert torch.equal(block.kernel_of(5, 4), whole[:, :, 1:6, 1:6])
    assert torch.equal(block.kernel_of(3, 4), whole[:, :, 2:5, 2:5])


def test_costs_on_paper_are_what_torch_counts(net: Supernet) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for genome in (LARGEST, SMALLEST):
        calibrate(net, genome, [images(genome)])
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(images(genome, 1), genome)
        # Torch counts the kernels' own transforms too, which a cut subnet does not have.
        transforms = sum(
            2 * expansion * inputs * size**4
            for stage, place, kernel, expansion in genome.blocks()
            for inputs in [net.stages[stage][place].inputs]  # type: ignore[index]
            for size in KERNELS[:-1]
            if size >= kernel
        )
        macs = sum(layer.macs for layer in layers(genome))
        assert counter.get_total_flops() == 2 * macs + transforms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 72}, "resolution"),
        ({"depths": [2, 3]}, "depths"),
        ({"depths": [2, 3, 5]}, "depths"),
        ({"kernels": [[3, 3, 9, 3]] * 3}, "kernels"),
        ({"expansions": [[3, 3, 0, 3]] * 3}, "expansions"),
        ({"expansions": None}, "a genome"),
    ],
)
def test_a_genome_out_of_range_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        genome_from_json({**LARGEST.as_json(), **change})


def test_genes_past_the_depth_are_zeros() -> None:
    found = SMALLEST.as_json()
    assert genome_from_json(found) == SMALLEST
    found["kernels"][0][3] = 3
    with pytest.raises(ValueError, match="zeros"):
        genome_from_json(found)
