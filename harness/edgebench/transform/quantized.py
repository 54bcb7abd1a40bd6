"""What goes into a transform and what comes out of it: reference linears, quantized tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from edgebench.record import TransformStep
from edgebench_kernels.formats import Int4Tensor, tensor_sha256

NOT_LINEAR = ("embed_tokens", "norm")
SUFFIX = ".weight"


class Linears(Protocol):
    """What a transform needs of a reference, wherever its weights lie."""

    @property
    def sha256(self) -> str:
        """The reference by content."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Module paths of its linear layers."""
        ...

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one linear layer, fp16 [N, K]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLinears:
    """The reference's linear layers, read one at a time so that large models fit in memory."""

    path: Path = field(repr=False)
    sha256: str
    names: tuple[str, ...]

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one linear layer, fp16 [N, K]."""
        with safe_open(self.path, framework="numpy") as tensors:
            return np.asarray(tensors.get_tensor(name + SUFFIX))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """Canonical INT4 tensors by module path, with the ledger steps that made them."""

    tensors: Mapping[str, Int4Tensor]
    steps: tuple[TransformStep, ...]


def open_reference(path: Path, sha256: str) -> ReferenceLinears:
    """List the linear layers of a `model.safetensors` whose hash is already verified."""
    with safe_open(path, framework="numpy") as tensors:
        names = tuple(
            sorted(
                key.removesuffix(SUFFIX)
                for key in tensors.keys()  # noqa: SIM118  safe_open is no mapping
                if key.endswith(SUFFIX) and not any(word in key for word in NOT_LINEAR)
            )
        )
    return ReferenceLinears(path=path, sha256=sha256, names=names)


def model_sha256(tensors: Mapping[str, Int4Tensor]) -> str:
    """Hash a quantized model: sha256 over its sorted `name sha256` lines."""
    lines = (f"{name} {tensor_sha256(tensors[name])}\n" for name in sorted(tensors))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def tensors_bytes(tensors: Mapping[str, Int4Tensor]) -> bytes:
    """Serialise quantized tensors as safetensors: `<name>.qweight`, `.scale` and `.zero`."""
    parts = {
        f"{name}.{part}": np.ascontiguousarray(getattr(tensor, part))
        for name, tensor in tensors.items()
        for part in ("qweight", "scale", "zero")
    }
    data: bytes = save(parts)
    return data
