"""The part of `ledger.json` that says what a changed network of images is, coded or not."""

from __future__ import annotations

from pydantic import Field

from edgebench.strict import Count, NonNegative, Sha256, StrictModel, Text
from edgebench.subnet_record import GenomeRow
from edgebench.tensor_facts import TensorFacts
from edgebench.training_record import Training


class Coded(StrictModel):
    """`coded.bin`, stage by stage as in Deep Compression's tables; biases counted in each."""

    sha256: Sha256
    size_bytes: Count = Field(description="of coded.bin, with everything that decoding needs")
    reference_bytes: Count = Field(description="the reference's parameters in fp32")
    pruned_bytes: Count = Field(
        description="fp32 values that are not zero, and codes of equal size of the gaps between "
        "them; whole layers where that is less"
    )
    shared_bytes: Count = Field(
        description="codebooks in fp16, and codes of equal size of values and gaps"
    )
    entropy_bytes: NonNegative = Field(
        description="as coded.bin, its streams at the empirical entropy of single symbols and "
        "without the lengths of codes: what no coding of single symbols goes below"
    )
    bits_per_weight: NonNegative = Field(description="of coded.bin, per parameter of this network")
    ratio: NonNegative = Field(description="reference_bytes over size_bytes")


class OpenNetwork(StrictModel):
    """The reference of images after its steps: its tensors, measured, and what training cost."""

    genome: GenomeRow
    kept: dict[Text, Sha256] = Field(
        description="tensors of open.safetensors: the whole network in fp16, quantized or not"
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
    training: list[Training] = Field(default_factory=list)
    coded: Coded | None = Field(default=None, description="given exactly where share was a step")
