"""One kernel as it runs in one scenario, and what gives it: the engines of a workload."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from edgebench.record import Kernel, ModelCost, Scenario
from edgebench.roofline import Arithmetic, Model

if TYPE_CHECKING:
    from edgebench.images.engine import ImageEngine
    from edgebench_kernels.engine import DecodeEngine
    from edgebench_kernels.formats import Int4Tensor

OFFLINE_BATCH = 64  # ours: the CPU kernels reach their peak there (kernels/README.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEngine:
    """One kernel as it runs in one scenario."""

    kernel: Kernel
    engine: DecodeEngine | ImageEngine
    executed_path: str
    batch_size: int
    arithmetic: Arithmetic | None
    warnings: tuple[str, ...] = ()
    packed: Mapping[str, NDArray[np.uint8]] | None = None
    """The packed INT4 bytes that it reads, by linear; None where they cannot be seen."""
    is_in_process: bool = True
    """Whether this process's memory holds it."""
    cost: ModelCost | None = None
    """Of a model of images, on paper."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a decode step of this scenario's batch reads."""
        return self.engine.weight_bytes_at(self.batch_size)

    @property
    def decoder(self) -> DecodeEngine:
        """The engine of a workload of text."""
        return cast("DecodeEngine", self.engine)


Weights = npt.NDArray[Any]


class WeightChange(Protocol):
    """Changes some linears' weights: fp16 [N, K], or packed INT4 codes uint8 [N K/G, G/2].

    Codes come a group of G inputs a row, so that all of a row lie on one grid.
    """

    def __call__(self, name: str, weights: Weights) -> Weights:
        """Return what takes the place of a linear's weights, or the same array for those kept."""
        ...


class WorkloadEngines(Protocol):
    """The engines of one workload, wherever they execute."""

    model: Model
    """What the reference multiplies."""
    candidate_model: Model
    """What the kernel beside it multiplies: another where an open model is smaller."""

    def changed(self, engine: KernelEngine, change: WeightChange) -> KernelEngine:
        """Return the same engine, every choice of it included, around a changed model."""
        ...

    def for_scenario(
        self, kernel: Kernel, scenario: Scenario, named: str | None = None
    ) -> KernelEngine:
        """Return a kernel as it runs in a scenario.

        named: an executed path of a bundle, to take where it exists here instead of racing.
        """
        ...


def changed_tensors(
    tensors: Mapping[str, Int4Tensor], change: WeightChange
) -> dict[str, Int4Tensor]:
    """Return INT4 tensors with some codes changed, their grids kept."""
    return {
        name: replace(tensor, qweight=_changed_codes(name, tensor, change))
        for name, tensor in tensors.items()
    }


def _changed_codes(name: str, tensor: Int4Tensor, change: WeightChange) -> NDArray[np.uint8]:
    by_group = tensor.qweight.reshape(-1, tensor.group // 2)
    return change(name, by_group).reshape(tensor.qweight.shape)


def known_path(named: str | None, paths: Container[str]) -> str | None:
    """The path that an executed path begins with, where it is one of these; else None.

    What a bundle says of its path is text that anybody may have written: it chooses among the
    paths that exist here, and means nothing else.
    """
    path = (named or "").partition("/")[0]
    return path if path in paths else None
