"""The layers of a model of convolutions, as transforms take linear layers."""

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
    """See quantized.Linears: weights [N, K, k, k] are [N, K * k * k]."""

    __slots__ = ()

    def config(self) -> LlamaConfig:
        """See Linears: there is none, which SpecError says."""
        raise SpecError("[transform] expected a Llama, got a model of convolutions; use rtn")

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one layer, fp16 [N, K]."""
        with safe_open(self.path, framework="numpy") as tensors:
            stored = np.asarray(tensors.get_tensor(name + SUFFIX))
        return stored.reshape(stored.shape[0], -1)
