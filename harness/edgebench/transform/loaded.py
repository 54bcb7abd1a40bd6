"""The linears of a checkpoint that is loaded already, as transforms take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgebench.codec import sha256_bytes
from edgebench.transform.quantized import SUFFIX
from edgebench_workloads.weights import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from edgebench_kernels.engine import LlamaConfig, LlamaWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedLinears:
    """See `quantized.Linears`."""

    weights: LlamaWeights
    sha256: str
    names: tuple[str, ...]
    convolutions: tuple[str, ...] = ()

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """See Linears."""
        return tuple(self.weights.tensors)

    def config(self) -> LlamaConfig:
        """See Linears."""
        return self.weights.config

    def tensor(self, name: str) -> Tensor:
        """See Linears: in fp16."""
        return self.weights.tensors[name]

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one linear layer, fp16 [N, K]."""
        return np.asarray(self.weights.linear(name + SUFFIX).numpy())


def file_hashes(directory: Path) -> dict[str, str]:
    """The safetensors files of a checkpoint by name, each with its sha256."""
    from edgebench_kernels.checkpoints.files import weight_files

    return {path.name: sha256_of(path) for path in weight_files(directory)}


def linears_of(weights: LlamaWeights, hashes: Mapping[str, str]) -> LoadedLinears:
    """All linears of a checkpoint with these files, in execution order."""
    lines = "".join(f"{name} {digest}\n" for name, digest in hashes.items())
    names = tuple(name.removesuffix(SUFFIX) for name in weights.linears())
    return LoadedLinears(weights=weights, sha256=sha256_bytes(lines.encode()), names=names)
