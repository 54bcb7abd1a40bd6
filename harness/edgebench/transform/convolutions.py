"""The matrix products of a model of convolutions, as transforms take linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from edgebench.errors import SpecError
from edgebench.transform.quantized import SUFFIX, StoredTensors

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig


class ConvolutionLinears(StoredTensors):
    """See quantized.Linears: 1x1 convolutions [N, K, 1, 1] are [N, K]."""

    __slots__ = ()

    def config(self) -> LlamaConfig:
        """See Linears: there is none, which SpecError says."""
        raise SpecError("[transform] expected a Llama, got a model of convolutions; use rtn")

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one matrix product, fp16 [N, K]."""
        with safe_open(self.path, framework="numpy") as tensors:
            stored = np.asarray(tensors.get_tensor(name + SUFFIX))
        return stored.reshape(stored.shape[0], -1)
