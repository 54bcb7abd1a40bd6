"""Packed INT4 weights: the kernels' layout of an `Int4Tensor`, in memory that the library owns."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels import native
from edgebench_kernels.formats import Int4Tensor

LINEAR_DOORS = {  # path -> door
    "w4a16": "eb_w4a16_linear",
    "w4a8": "eb_w4a8_linear",
    "w4a8-token": "eb_w4a8_token_linear",
}


class PackedInt4:
    """A weight matrix [N, K] in the layout of `csrc/int4_format.h`, freed with this object.

    `handle` is what the C doors take; it is valid as long as this object lives.
    """

    def __init__(self, tensor: Int4Tensor) -> None:
        library = native.library()
        self.shape = tensor.shape
        self.group = tensor.group
        n, k = tensor.shape
        arrays = [
            np.require(array, requirements=("C", "A"))
            for array in (tensor.qweight, tensor.scale, tensor.zero)
        ]
        handle = ctypes.c_void_p()
        error = library.eb_w4_pack(
            *(array.ctypes.data for array in arrays), n, k, int(tensor.group), ctypes.byref(handle)
        )
        native.check(error, "pack", f"N={n}, K={k}, group={tensor.group}")
        self.handle = int(handle.value or 0)
        self._free = weakref.finalize(self, library.eb_w4_free, self.handle)
        self._free.atexit = False  # the process's end frees it; other threads may still compute
        self.size_bytes = self.packed_bytes().nbytes

    def packed_bytes(self) -> NDArray[np.uint8]:
        """The packed bytes, uint8 [size], read-only; keeps this object alive."""
        start, size = ctypes.c_void_p(), ctypes.c_size_t()
        error = native.library().eb_w4_bytes(self.handle, ctypes.byref(start), ctypes.byref(size))
        native.check(error, "pack")
        memory = (ctypes.c_uint8 * size.value).from_address(int(start.value or 0))
        memory._packed = self  # type: ignore[attr-defined]  # the view must not outlive the bytes
        view: NDArray[np.uint8] = np.frombuffer(memoryview(memory), dtype=np.uint8)
        view.flags.writeable = False
        return view


def linear(packed: PackedInt4, x: NDArray[np.float32], path: str = "w4a16") -> NDArray[np.float32]:
    """y [M, N] = x [M, K] W^T in numpy, for callers without torch; `Int4Linear` is the fast one."""
    n, k = packed.shape
    if path not in LINEAR_DOORS:
        raise ValueError(f"[linear] path must be one of {', '.join(LINEAR_DOORS)}, got '{path}'")
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.shape[1:] != (k,):
        came = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ValueError(f"[{path}] x must be float32 [M, K={k}], got {came}")
    y = np.empty((x.shape[0], n), dtype=np.float32)
    if x.shape[0]:
        source = np.require(x, requirements=("C", "A"))
        door = getattr(native.library(), LINEAR_DOORS[path])
        native.check(door(packed.handle, x.shape[0], source.ctypes.data, y.ctypes.data), path)
    return y
