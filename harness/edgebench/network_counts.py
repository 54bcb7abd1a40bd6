"""What the ledger of any open model of images counts: its tensors, as they run. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgebench.open_model import Counted, Fp16, count_fp16, count_int4, count_int8
from edgebench.record import TensorFacts
from edgebench.transform.quantized import Rounded, array_sha256
from edgebench_kernels.formats import Int4Tensor
from edgebench_workloads.wake.costs import peak_activations
from edgebench_workloads.wake.genome import Genome, layers

PEAK_DEFINITION = (
    "MCUNet's (arXiv:2007.10319): the largest sum over the layers of input, output and a shortcut "
    "kept beside, at one byte each"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What every open model of images has in its ledger."""

    genome: Genome
    kept: dict[str, str]
    tensors: dict[str, TensorFacts]
    dense_macs: int
    effective_macs: int

    def fields(self) -> dict[str, Any]:
        """What both kinds of open models of images say of themselves, under the ledger's names."""
        return {
            "kept": self.kept,
            "tensors": self.tensors,
            "params_total": self.total,
            "params_nonzero": self.nonzero,
            "bits_per_weight": self.bits_per_weight,
            "entropy_bits_per_weight": self.entropy_bits_per_weight,
            "dense_macs_per_image": self.dense_macs,
            "effective_macs_per_image": self.effective_macs,
            "peak_activation_bytes": peak_activations(self.genome),
            "peak_memory_definition": PEAK_DEFINITION,
        }

    @property
    def total(self) -> int:
        """Parameters."""
        return sum(one.weights for one in self.tensors.values())

    @property
    def nonzero(self) -> int:
        """Parameters that are not zero."""
        return sum(one.nonzero for one in self.tensors.values())

    @property
    def bits_per_weight(self) -> float:
        """Of what is stored, per parameter."""
        return 8 * sum(one.stored_bytes for one in self.tensors.values()) / self.total

    @property
    def entropy_bits_per_weight(self) -> float:
        """What coding by the entropy of each tensor would come to."""
        return 8 * sum(one.entropy_bytes for one in self.tensors.values()) / self.total


def count(genome: Genome, rounded: Mapping[str, Rounded], kept: Mapping[str, Fp16]) -> Counts:
    """Count a network; kept holds all of it in fp16. Rows are a weight's outputs."""
    facts = {f"{name}.weight": _count_rounded(tensor).facts for name, tensor in rounded.items()}
    flat = {name: one.reshape(len(one), -1) if one.ndim > 2 else one for name, one in kept.items()}
    facts |= {name: count_fp16(one).facts for name, one in flat.items() if name not in facts}
    pixels = {f"{layer.name}.weight": layer.side**2 for layer in layers(genome)}
    return Counts(
        genome=genome,
        kept={name: array_sha256(array) for name, array in kept.items()},
        tensors=dict(sorted(facts.items())),
        dense_macs=sum(facts[name].weights * side for name, side in pixels.items()),
        effective_macs=sum(facts[name].nonzero * side for name, side in pixels.items()),
    )


def _count_rounded(tensor: Rounded) -> Counted:
    return count_int4(tensor) if isinstance(tensor, Int4Tensor) else count_int8(tensor)
