"""The matrix products of a model of convolutions, as transforms take linear layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from edgebench.errors import SpecError
from edgebench.transform.quantized import SUFFIX

if TYPE_CHECKING:
    from torch import Tensor

    from edgebench_kernels.engine import LlamaConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionLinears:
    """See quantized.Linears: 1x1 convolutions [N, K, 1, 1] are [N, K]."""

    path: Path = field(repr=False)
    sha256: str
    names: tuple[str, ...]

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """See Linears."""
        with safe_open(self.path, framework="numpy") as tensors:
            return tuple(tensors.keys())

    def config(self) -> LlamaConfig:
        """See Linears: there is none, which SpecError says."""
        raise SpecError("[transform] expected a Llama, got a model of convolutions; use rtn")

    def tensor(self, name: str) -> Tensor:
        """See Linears."""
        with safe_open(self.path, framework="pt") as tensors:
            stored: Tensor = tensors.get_tensor(name)
        return stored

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one matrix product, fp16 [N, K]."""
        with safe_open(self.path, framework="numpy") as tensors:
            stored = np.asarray(tensors.get_tensor(name + SUFFIX))
        return stored.reshape(stored.shape[0], -1)
