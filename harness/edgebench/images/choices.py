"""The engines that a model of images may run in: each arithmetic of the reference, or of INT4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgebench.errors import SpecError
from edgebench.images.engine import (
    DEQUANTIZED,
    DTYPES,
    ImageEngine,
    Int4Way,
    int4_engine,
    reference_engine,
)
from edgebench.transform import TransformChain, apply_transform
from edgebench.transform.quantized import QuantizedModel
from edgebench_kernels import native
from edgebench_kernels.int8_format import Int8Tensor, dequantize_int8
from edgebench_kernels.packing import PackedInt4
from edgebench_workloads.wake.costs import convolutions, products
from edgebench_workloads.wake.genome import Genome

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig

PATHS = ("w4a16", "w4a8")
OTHERS = "stem, depthwise"

Weights = Mapping[str, Tensor]
Choices = Callable[[Genome, Weights], Sequence[ImageEngine]]


def reference_choices(genome: Genome, weights: Weights) -> list[ImageEngine]:
    """fp32 and bf16, 1x1 convolutions as matrices or as convolutions."""
    return [
        reference_engine(genome, weights, dtype, as_matrices=as_matrices)
        for dtype in DTYPES
        for as_matrices in (True, False)
    ]


def int4_choices(genome: Genome, weights: Weights, quantized: QuantizedModel) -> list[ImageEngine]:
    """Both INT4 paths, by the pool or on one thread, and torch's products of dequantized weights.

    The other layers run in fp32 or bf16.
    """
    linears = {name: PackedInt4(one) for name, one in quantized.tensors.items()}
    own = with_int8(weights, quantized.convolutions)
    others = OTHERS + (", INT8 weights" if quantized.convolutions else "")
    ways = [
        Int4Way(path=path, dtype=dtype, is_alone=is_alone)
        for path in PATHS
        for dtype in DTYPES
        for is_alone in ((False, True) if native.threads() > 1 else (False,))
    ]
    ways += [Int4Way(path=DEQUANTIZED, dtype=dtype) for dtype in DTYPES]
    return [int4_engine(genome, own, linears, way, others) for way in ways]


def with_int8(weights: Weights, convolutions: Mapping[str, Int8Tensor]) -> dict[str, Tensor]:
    """Weights of which some are what INT8 codes stand for, in float32."""
    own = dict(weights)
    for name, tensor in convolutions.items():
        weight = weights[f"{name}.weight"]
        own[f"{name}.weight"] = torch.from_numpy(dequantize_int8(tensor)).view(weight.shape)
    return own


def choices_after(rounding: TransformChain | None) -> Choices:
    """How a subnet runs behind a chain: INT4 by its quantizer, or as the reference does."""
    if rounding is None:
        return reference_choices

    def choices(genome: Genome, weights: Weights) -> list[ImageEngine]:
        return int4_choices(genome, weights, apply_transform(rounding, _Layers(genome, weights)))

    return choices


@dataclass(frozen=True, slots=True)
class _Layers:
    """See quantized.Linears: the layers of weights in memory, for a quantizer without data."""

    genome: Genome
    weights: Weights
    sha256: str = "0" * 64  # no ledger sees it

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(layer.name for layer in products(self.genome)))

    @property
    def convolutions(self) -> tuple[str, ...]:
        return tuple(sorted(layer.name for layer in convolutions(self.genome)))

    @property
    def tensor_names(self) -> tuple[str, ...]:
        return tuple(self.weights)

    def config(self) -> LlamaConfig:
        raise SpecError("[transform] expected a Llama, got a model of convolutions; use rtn")

    def tensor(self, name: str) -> Tensor:
        return self.weights[name]

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        found: npt.NDArray[np.float16] = self.weights[f"{name}.weight"].flatten(1).half().numpy()
        return found
