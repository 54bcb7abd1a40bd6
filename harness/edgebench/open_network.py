"""The open track's ledger of a changed network of images: what it is by its tensors.

Computed once by the runner and again by `bench check`. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgebench import coded
from edgebench.codec import sha256_bytes
from edgebench.network_counts import count
from edgebench.open_model import Fp16, entropy_bits
from edgebench.open_subnet import genome_row
from edgebench.record import Coded, OpenNetwork, Training
from edgebench.transform.quantized import Rounded
from edgebench_workloads.wake.costs import total_parameters
from edgebench_workloads.wake.genome import Genome, layers

FP16_BYTES, FP32_BYTES = 2, 4


def describe_network(
    genome: Genome,
    rounded: Mapping[str, Rounded],
    kept: Mapping[str, Fp16],
    *,
    training: Sequence[Training] = (),
    coded_for: Genome | None = None,
) -> OpenNetwork:
    """Everything that the ledger says of a network; coded_for: the reference of a coded file."""
    return OpenNetwork(
        genome=genome_row(genome),
        **count(genome, rounded, kept).fields(),
        training=list(training),
        coded=None if coded_for is None else describe_coded(genome, kept, coded_for),
    )


def describe_coded(genome: Genome, arrays: Mapping[str, Fp16], reference: Genome) -> Coded:
    """The stages of Deep Compression, each by its bytes."""
    data = coded.encode(genome, arrays)
    weights = [arrays[f"{layer.name}.weight"] for layer in layers(genome)]
    biases = sum(layer.outputs for layer in layers(genome))
    streams = [coded.smallest(weight) for weight in weights]
    whole = FP32_BYTES * total_parameters(reference)
    saved = sum(len(one.encoded()) - _entropy_bytes(one) for one in streams)
    return Coded(
        sha256=sha256_bytes(data),
        size_bytes=len(data),
        reference_bytes=whole,
        pruned_bytes=FP32_BYTES * biases + sum(map(_pruned_bytes, weights)),
        shared_bytes=FP16_BYTES * biases + sum(map(_shared_bytes, streams)),
        entropy_bytes=len(data) - saved,
        bits_per_weight=8 * len(data) / total_parameters(genome),
        ratio=whole / len(data),
    )


def _pruned_bytes(weight: Fp16) -> int:
    """Values in fp32 with gaps of the best size, or all of them."""
    sizes = [FP32_BYTES * weight.size]
    for bits in coded.GAP_BITS:
        gaps = coded.gapped(weight, bits)
        if gaps is not None:
            sizes.append(FP32_BYTES * gaps.count + _whole_bytes(bits * len(gaps.gaps)))
    return min(sizes)


def _shared_bytes(one: coded.Streams) -> int:
    if one.form == coded.RAW:
        return len(one.raw)
    bits = one.value_bits * one.count + one.gap_bits * len(one.gaps)
    return FP16_BYTES * len(one.values) + _whole_bytes(bits)


def _entropy_bytes(one: coded.Streams) -> float:
    if one.form == coded.RAW:
        return len(one.raw)
    parts = [each for each in (one.numbers, one.gaps) if len(each)]
    bits = sum(entropy_bits(each) * len(each) for each in parts)
    return FP16_BYTES * len(one.values) + bits / 8


def _whole_bytes(bits: int) -> int:
    return -(-bits // 8)
