"""The open track's ledger of a searched subnet: what it is by its tensors, counted by both sides.

Computed once by the runner and again by `bench check`. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgebench.open_model import Fp16, count_fp16, count_int4
from edgebench.record import OpenSubnet
from edgebench.subnet_record import GenomeRow, Search
from edgebench.transform.quantized import array_sha256
from edgebench_kernels.formats import Int4Tensor
from edgebench_workloads.wake.costs import peak_activations
from edgebench_workloads.wake.genome import Genome, Layer, genome_from_json, layers

TEACHER = "the supernet's own largest subnet as its first training phase left it"
PEAK_DEFINITION = (
    "MCUNet's (arXiv:2007.10319): the largest sum over the layers of input, output and a shortcut "
    "kept beside, at one byte each"
)

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
    quantized: Iterable[tuple[str, Int4Tensor]],
    kept: Mapping[str, Fp16],
    *,
    supernet_sha256: str,
    search: Search,
) -> OpenSubnet:
    """Everything that the ledger says of a subnet; kept holds all of it in fp16."""
    counted = {f"{name}.weight": count_int4(tensor).facts for name, tensor in quantized}
    counted |= {name: count_fp16(one).facts for name, one in kept.items() if name not in counted}
    pixels = {f"{layer.name}.weight": layer.side**2 for layer in layers(genome)}
    total = sum(one.weights for one in counted.values())
    stored = sum(one.stored_bytes for one in counted.values())
    return OpenSubnet(
        supernet_sha256=supernet_sha256,
        teacher=TEACHER,
        genome=genome_row(genome),
        kept={name: array_sha256(array) for name, array in kept.items()},
        tensors=dict(sorted(counted.items())),
        params_total=total,
        params_nonzero=sum(one.nonzero for one in counted.values()),
        bits_per_weight=8 * stored / total,
        entropy_bits_per_weight=8 * sum(one.entropy_bytes for one in counted.values()) / total,
        dense_macs_per_image=sum(counted[name].weights * side for name, side in pixels.items()),
        effective_macs_per_image=sum(counted[name].nonzero * side for name, side in pixels.items()),
        peak_activation_bytes=peak_activations(genome),
        peak_memory_definition=PEAK_DEFINITION,
        search=search,
    )
