"""The part of `ledger.json` that says which subnet a search found, and what the search saw."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgebench.strict import Count, Fraction, NonNegative, Sha256, StrictModel, Text
from edgebench.tensor_facts import TensorFacts


class GenomeRow(StrictModel):
    """One subnet's genes; a row a stage, an entry a block, 0 where there is none."""

    resolution: Count
    depths: list[Count] = Field(max_length=16)
    kernels: list[list[Count]] = Field(max_length=16)
    expansions: list[list[Count]] = Field(max_length=16)
    middles: list[list[Count]] | None = Field(
        default=None, max_length=16, description="channels between a block's products, after a cut"
    )


class LatencyTable(StrictModel):
    """What every choice takes on this device, one image at a time; a prediction is a sum of it."""

    fixed_ns: dict[Text, Count] = Field(
        description="by resolution: stem, head, and what answering an image takes beside its layers"
    )
    block_ns: dict[Text, Count] = Field(
        description="by 'RESOLUTION/STAGE.PLACE/kKERNELeEXPANSION': one block inside a network"
    )
    executed_paths: dict[Text, Text] = Field(description="by resolution: the engine that was timed")
    passes: Count = Field(
        description="of each network; the lower decile counts, the median where fitted is none"
    )
    fitted: Count | None = Field(
        default=None, description="whole networks that the entries are scaled to"
    )
    held_out: Count | None = Field(
        default=None, description="other networks, timed in the same turns, for the errors"
    )
    held_out_median_error: NonNegative | None = Field(
        default=None, description="of predicted over measured, less 1, without its sign"
    )
    held_out_worst_error: NonNegative | None = None


class Tried(StrictModel):
    """A finalist: judged directly, and timed in turns with the others."""

    genome: GenomeRow
    searched_limit: Count = Field(description="that its prediction was held to")
    predicted_latency_ns: Count
    measured_latency_ns: Count
    evaluated_top1: Fraction


class Search(StrictModel):
    """How a subnet was found, and how well its latency was foreseen."""

    constraint: Literal["latency", "memory", "macs"]
    limit: Count = Field(description="ns for one image, bytes of peak activations, or MACs")
    seed: Count
    split: Text = Field(description="the scenes that accuracy was evaluated on; never the scored")
    split_sha256: Sha256
    predictor: Text
    predictor_error: NonNegative = Field(
        description="root mean square, in top-1, leaving each evaluated subnet out"
    )
    evaluations: Count = Field(description="subnets evaluated directly, for the predictor")
    generations: Count
    population: Count
    finalists: Count = Field(description="evaluated directly on all of the split at the end")
    predicted_top1: float = Field(description="of the winner")
    evaluated_top1: Fraction = Field(description="of the winner, directly")
    table: LatencyTable
    predicted_latency_ns: Count
    measured_latency_ns: Count = Field(
        description="of the winner: lower decile of measured_passes in turns with the other "
        "finalists; their median where tried is empty"
    )
    measured_passes: Count
    measured_path: Text
    latency_error: float = Field(description="predicted over measured, less 1")
    tried: list[Tried] = Field(
        default=[],
        max_length=256,
        description="every finalist; a limit of latency holds for the winner as measured. Empty "
        "in bundles whose limit held for the prediction alone",
    )


class OpenSubnet(StrictModel):
    """A subnet of the shipped supernet: its tensors counted, and the search that chose it."""

    supernet_sha256: Sha256
    teacher: Text = Field(description="whose soft answers the supernet learned")
    genome: GenomeRow
    kept: dict[Text, Sha256] = Field(
        description="tensors of open.safetensors: the whole subnet in fp16, quantized or not"
    )
    tensors: dict[Text, TensorFacts] = Field(description="as they run: INT4 or fp16")
    params_total: Count
    params_nonzero: Count
    bits_per_weight: NonNegative = Field(description="stored bytes of all tensors, per parameter")
    entropy_bits_per_weight: NonNegative
    dense_macs_per_image: Count
    effective_macs_per_image: Count = Field(
        description="without the weights that are zero; no speed follows from it"
    )
    peak_activation_bytes: Count
    peak_memory_definition: Text
    search: Search
