"""What goes into a transform and what comes out of it: reference linears, quantized tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from edgebench.errors import SpecError
from edgebench.record import TransformStep
from edgebench_kernels.formats import Int4Tensor, tensor_sha256
from edgebench_kernels.int8_format import Int8Tensor, int8_sha256

if TYPE_CHECKING:
    from torch import Tensor

    from edgebench_kernels.engine import LlamaConfig

NOT_LINEAR = ("embed_tokens", "norm")
SUFFIX = ".weight"
BIAS = ".bias"
SCALE = ".scale"
HEAD = "lm_head"
EMBEDDING = "model.embed_tokens"


Rounded = Int4Tensor | Int8Tensor


class Linears(Protocol):
    """What a transform needs of a reference, wherever its weights lie: one tensor at a time."""

    @property
    def sha256(self) -> str:
        """The reference by content."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Module paths of the linear layers to quantize; a tied lm_head is one of its own."""
        ...

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Module paths of the layers that are no matrix products; none in a model of text."""
        ...

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Every tensor of the checkpoint, `<module path>.weight` or `.bias`."""
        ...

    def config(self) -> LlamaConfig:
        """The model's shape; SpecError where no family that runs here has it."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Return one of those tensors on the CPU, as stored."""
        ...

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one layer, fp16 [N, K]: an output channel is a row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensors:
    """A checkpoint's tensors, read one at a time so that large models fit in memory."""

    path: Path = field(repr=False)
    sha256: str
    names: tuple[str, ...]
    convolutions: tuple[str, ...] = ()

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """See Linears."""
        with safe_open(self.path, framework="numpy") as tensors:
            return tuple(tensors.keys())

    def tensor(self, name: str) -> Tensor:
        """See Linears."""
        with safe_open(self.path, framework="pt") as tensors:
            stored: Tensor = tensors.get_tensor(name)
        return stored


class ReferenceLinears(StoredTensors):
    """The reference's linear layers; see Linears."""

    __slots__ = ()

    def config(self) -> LlamaConfig:
        """See Linears: the config.json beside the weights."""
        from edgebench_kernels.engine import read_config  # torch comes with it

        try:
            return read_config(self.path.with_name("config.json"))
        except ValueError as err:
            raise SpecError(str(err)) from err

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return the weight of one linear layer, fp16 [N, K]."""
        with safe_open(self.path, framework="numpy") as tensors:
            is_tied = name == HEAD and HEAD + SUFFIX not in tensors.keys()  # noqa: SIM118
            return np.asarray(tensors.get_tensor((EMBEDDING if is_tied else name) + SUFFIX))


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What an equivalence transform left outside the INT4 tensors, by module path.

    norms: fp16 [C], the weights that replace the reference's. biases: fp16 [N], those of linears
    whose outputs were divided. scales: float32 [outputs of a norm or linear], by which those
    outputs were divided and what reads them was multiplied.
    """

    norms: Mapping[str, npt.NDArray[np.float16]] = field(default_factory=dict)
    biases: Mapping[str, npt.NDArray[np.float16]] = field(default_factory=dict)
    scales: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def replaced(self) -> dict[str, npt.NDArray[np.float16]]:
        """The tensors that replace the reference's, under their checkpoint's names."""
        norms = {name + SUFFIX: np.ascontiguousarray(a) for name, a in self.norms.items()}
        return norms | {name + BIAS: np.ascontiguousarray(a) for name, a in self.biases.items()}

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Every array under the name that it has in a file; a scale is `<path>.scale`."""
        scales = {name + SCALE: np.ascontiguousarray(a) for name, a in self.scales.items()}
        return {**self.replaced(), **scales}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """Canonical INT4 tensors by module path, with the ledger steps that made them."""

    tensors: Mapping[str, Int4Tensor]
    steps: tuple[TransformStep, ...]
    folded: Folded = field(default_factory=Folded)
    convolutions: Mapping[str, Int8Tensor] = field(default_factory=dict)
    """INT8 weights of the layers that are no matrix products, where those are rounded too."""

    @property
    def rounded(self) -> Mapping[str, Rounded]:
        """Every layer that is rounded, to 4 or to 8 bits."""
        return {**self.tensors, **self.convolutions}


def open_reference(path: Path, sha256: str) -> ReferenceLinears:
    """List the linear layers of a `model.safetensors` whose hash is already verified.

    A file without lm_head has one that reads the embedding's weight.
    """
    with safe_open(path, framework="numpy") as tensors:
        keys = tuple(tensors.keys())
    names = {
        key.removesuffix(SUFFIX)
        for key in keys
        if key.endswith(SUFFIX) and not any(word in key for word in NOT_LINEAR)
    }
    if EMBEDDING + SUFFIX in keys:
        names.add(HEAD)
    return ReferenceLinears(path=path, sha256=sha256, names=tuple(sorted(names)))


def array_sha256(array: npt.NDArray[np.generic]) -> str:
    """Hash one array: its dtype, its shape, its little-endian bytes."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{plain.dtype.str} {list(plain.shape)}\n".encode())
    digest.update(plain.tobytes())
    return digest.hexdigest()


def folded_hashes(folded: Folded) -> dict[str, str]:
    """The ledger's entry for what was folded: array name -> sha256."""
    return {name: array_sha256(array) for name, array in folded.arrays().items()}


def lines_sha256(hashes: Mapping[str, str]) -> str:
    """Hash a model by its parts: sha256 over the sorted `name sha256` lines."""
    lines = (f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def folded_sha256(folded: Folded) -> str:
    """Hash a model whose scales are folded and whose weights are not rounded yet."""
    return lines_sha256(folded_hashes(folded))


def int8_hashes(convolutions: Mapping[str, Int8Tensor]) -> dict[str, str]:
    """The ledger's entry for INT8 weights: module path -> sha256."""
    return {name: int8_sha256(tensor) for name, tensor in convolutions.items()}


def model_sha256(
    tensors: Mapping[str, Int4Tensor],
    folded: Folded | None = None,
    convolutions: Mapping[str, Int8Tensor] | None = None,
) -> str:
    """Hash a quantized model: its tensors, what was folded beside them, and its INT8 weights."""
    hashes = {name: tensor_sha256(tensor) for name, tensor in tensors.items()}
    return lines_sha256(
        hashes | folded_hashes(folded or Folded()) | int8_hashes(convolutions or {})
    )


def folded_bytes(folded: Folded) -> bytes:
    """Serialise what was folded as safetensors."""
    data: bytes = save(folded.arrays())
    return data


def tensors_bytes(tensors: Mapping[str, Int4Tensor]) -> bytes:
    """Serialise quantized tensors as safetensors: `<name>.qweight`, `.scale` and `.zero`."""
    parts = {
        f"{name}.{part}": np.ascontiguousarray(getattr(tensor, part))
        for name, tensor in tensors.items()
        for part in ("qweight", "scale", "zero")
    }
    data: bytes = save(parts)
    return data
