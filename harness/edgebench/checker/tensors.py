"""Where the checker takes quantized tensors from: the bundle, --tensors, or the recipe itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from edgebench import layout
from edgebench.checker.subject import Reference, Subject
from edgebench.errors import BenchError, BundleError
from edgebench.record import TransformStep
from edgebench.transform import (
    PARAMETERS,
    WITHOUT_DATA,
    TransformChain,
    TransformSpec,
    apply_transform,
)
from edgebench_kernels.formats import Int4Tensor

PARTS = ("qweight", "scale", "zero")


class TensorSource(Protocol):
    """Gives one canonical tensor at a time, so that large models fit in memory."""

    def names(self) -> frozenset[str]:
        """Return the module paths that it holds."""

    def get(self, name: str) -> Int4Tensor:
        """Return one tensor; ValueError says what is wrong with it."""


@contextmanager
def open_source(subject: Subject) -> Iterator[TensorSource]:
    """Open the bundle's own tensors, else those of --tensors, else regenerate from the recipe."""
    ledger = subject.bundle.ledger
    path = subject.bundle.tensors_path
    if path is None and subject.tensors_folder is not None:
        path = subject.tensors_folder / layout.TENSORS
    if path is None:
        yield _Recipe(subject.workload.reference, ledger.steps, frozenset(ledger.tensors))
        return
    try:
        opened = safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as err:
        raise BundleError(f"[{path}] expected a readable safetensors file, got {err}") from err
    with opened as file:
        yield _File(file)


class _File:
    """A safetensors file with `<module>.qweight`, `.scale` and `.zero` for every tensor."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._keys = frozenset(file.keys())

    def names(self) -> frozenset[str]:
        return frozenset(key.rpartition(".")[0] for key in self._keys)

    def get(self, name: str) -> Int4Tensor:
        missing = [part for part in PARTS if f"{name}.{part}" not in self._keys]
        if missing:
            raise ValueError(f"{name} has no {', '.join(missing)}")
        try:
            qweight, scale, zero = (self._file.get_tensor(f"{name}.{part}") for part in PARTS)
        except (SafetensorError, TypeError) as err:
            raise ValueError(f"{name} cannot be read: {err}") from err
        if qweight.ndim != 2 or scale.ndim != 2 or 0 in scale.shape:
            raise ValueError(f"{name} must have two dimensions in every part")
        group = 2 * qweight.shape[1] // scale.shape[1]
        return Int4Tensor(qweight=qweight, scale=scale, zero=zero, group=group)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneLinear:
    """A reference of which a transform sees a single layer."""

    reference: Reference
    name: str

    @property
    def sha256(self) -> str:
        return self.reference.sha256

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def convolutions(self) -> tuple[str, ...]:
        return self.reference.convolutions

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        return self.reference.weight(name)


class _Recipe:
    """The ledger's one step, run again on the verified reference."""

    def __init__(
        self, reference: Reference, steps: list[TransformStep], names: frozenset[str]
    ) -> None:
        if len(steps) != 1 or steps[0].transform not in WITHOUT_DATA:
            raise BundleError(
                "[tensors] expected a recipe of one step that needs no data; give --tensors DIR"
            )
        step = steps[0]
        known = PARAMETERS[step.transform]
        parameters = {k: v for k, v in step.parameters.items() if k in known and v is not None}
        spec = TransformSpec(name=step.transform, parameters=parameters)
        self._chain = TransformChain(steps=(spec,))
        self._reference = reference
        self._names = names

    def names(self) -> frozenset[str]:
        return self._names

    def get(self, name: str) -> Int4Tensor:
        one: Any = _OneLinear(reference=self._reference, name=name)
        try:
            return apply_transform(self._chain, one).tensors[name]
        except (BenchError, TypeError) as err:
            raise ValueError(f"{name} cannot be regenerated: {err}") from err
