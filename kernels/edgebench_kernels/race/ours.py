"""Our own contenders: one path of the INT4 linear on packed weights that rotate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels import native
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.packing import LINEAR_DOORS, PackedInt4, linear
from edgebench_kernels.race.cases import copies_past_cache


class Ours:
    """w4a16 or w4a8 through its C door, the weights another copy at each call."""

    ceiling: str | None = "int8"
    products = 1

    def __init__(self, path: str, weights: Sequence[PackedInt4]) -> None:
        self.op = path
        self.group: int | None = weights[0].group
        self.weight_bytes: int | None = weights[0].size_bytes
        self.operations = 4 if path == "w4a16" else 2
        self._weights = weights
        self._door = getattr(native.library(), LINEAR_DOORS[path])
        self._next = 0

    def prepare(self, x: NDArray[np.float32]) -> None:
        """Take x [M, K] and make room for y."""
        self._x = np.ascontiguousarray(x)
        self._y = np.empty((x.shape[0], self._weights[0].shape[0]), np.float32)

    def call(self) -> None:
        """One product on the next copy."""
        self._next = (self._next + 1) % len(self._weights)
        x, y = self._x.ctypes.data, self._y.ctypes.data
        error = self._door(self._weights[self._next].handle, self._x.shape[0], x, y)
        native.check(error, self.op)

    def first_output(self) -> NDArray[np.float32]:
        """The product as every caller without torch gets it."""
        return linear(self._weights[0], self._x, self.op)


def our_contenders(tensor: Int4Tensor) -> list[Ours]:
    """Both paths, on one set of copies."""
    first = PackedInt4(tensor)
    others = copies_past_cache(first.size_bytes) - 1
    weights = [first, *(PackedInt4(tensor) for _ in range(others))]
    return [Ours(path, weights) for path in LINEAR_DOORS]
