"""The open track's ledger of a searched subnet: what it is by its tensors, counted by both sides.

Computed once by the runner and again by `bench check`. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.network_counts import count
from edgebench.open_model import Fp16
from edgebench.record import OpenSubnet
from edgebench.subnet_record import GenomeRow, Search
from edgebench.transform.quantized import Rounded
from edgebench_workloads.wake.genome import Genome, Layer, genome_from_json, layers

TEACHER = "the supernet's own largest subnet as its first training phase left it"

Shape = tuple[int, ...]


def genome_row(genome: Genome) -> GenomeRow:
    """A genome as the ledger has it."""
    return GenomeRow.model_validate(genome.as_json())


def genome_of(row: GenomeRow) -> Genome:
    """The genome that a row names; ValueError where it names no subnet."""
    return genome_from_json(row.model_dump())


def shapes_of(genome: Genome) -> dict[str, Shape]:
    """Name and shape of every tensor of a subnet in fp16."""
    found: dict[str, Shape] = {}
    for layer in layers(genome):
        found[f"{layer.name}.weight"] = weight_shape(layer)
        found[f"{layer.name}.bias"] = (layer.outputs,)
    return found


def weight_shape(layer: Layer) -> Shape:
    """[N, K / groups, k, k]."""
    return (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)


def describe_subnet(
    genome: Genome,
    rounded: Mapping[str, Rounded],
    kept: Mapping[str, Fp16],
    *,
    supernet_sha256: str,
    search: Search,
) -> OpenSubnet:
    """Everything that the ledger says of a subnet; kept holds all of it in fp16."""
    return OpenSubnet(
        supernet_sha256=supernet_sha256,
        teacher=TEACHER,
        genome=genome_row(genome),
        **count(genome, rounded, kept).fields(),
        search=search,
    )
