"""What an engine's INT4 weights are while it is timed: hashed before the clock runs, and after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench.record import TimedWeights
from edgebench.transform.quantized import QuantizedModel, model_sha256

Packed = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsBefore:
    """The first half of a TimedWeights."""

    model_sha256: str
    packed_sha256: str
    packed: Packed

    @classmethod
    def of(cls, packed: Packed, quantized: QuantizedModel) -> WeightsBefore:
        """Hash the tensors that were packed, and what packing made of them."""
        return cls(
            model_sha256=model_sha256(quantized.tensors, quantized.folded, quantized.convolutions),
            packed_sha256=packed_sha256(packed),
            packed=packed,
        )

    def after(self) -> TimedWeights:
        """Hash the packed bytes again, where they lie."""
        return TimedWeights(
            model_sha256=self.model_sha256,
            before_sha256=self.packed_sha256,
            after_sha256=packed_sha256(self.packed),
            packed_bytes=sum(part.nbytes for part in self.packed.values()),
        )


def packed_sha256(packed: Packed) -> str:
    """Hash packed linears: each name, its size and its bytes, by name."""
    digest = hashlib.sha256()
    for name in sorted(packed):
        digest.update(f"{name} {packed[name].nbytes}\n".encode())
        digest.update(packed[name].data)
    return digest.hexdigest()
