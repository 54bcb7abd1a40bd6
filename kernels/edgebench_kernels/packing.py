"""Packed INT4 weights: the kernels' layout of an `Int4Tensor`, in memory that the library owns."""

from __future__ import annotations

import ctypes
import weakref
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels import native
from edgebench_kernels.formats import Int4Tensor

LINEAR_DOORS = {  # path -> door
    "w4a16": "eb_w4a16_linear",
    "w4a8": "eb_w4a8_linear",
    "w4a8-token": "eb_w4a8_token_linear",
}
LAYER_FAMILIES = {"w4a8": 0, "w4a16": 1}
"""Path -> the `family` of the door `eb_w4_layer`."""

Layout = Literal["dense", "2:4"]
"""Of `csrc/int4_format.h`, or of `csrc/int4_sparse_format.h`, which stores half of the codes."""


class PackedInt4:
    """A weight matrix [N, K] in one of the packed layouts, freed with this object.

    `handle` is what the C doors take; it is valid as long as this object lives. Raises ValueError
    naming the row and the inputs where a tensor that should be "2:4" is not.
    """

    def __init__(self, tensor: Int4Tensor, layout: Layout = "dense") -> None:
        if layout not in get_args(Layout):
            raise ValueError(
                f"[pack] layout must be one of {', '.join(get_args(Layout))}, got {layout!r}"
            )
        library = native.library()
        self.shape = tensor.shape
        self.group = tensor.group
        self.layout = layout
        n, k = tensor.shape
        arrays = [
            np.require(array, requirements=("C", "A"))
            for array in (tensor.qweight, tensor.scale, tensor.zero)
        ]
        handle = ctypes.c_void_p()
        sizes = (*(array.ctypes.data for array in arrays), n, k, int(tensor.group))
        if layout == "dense":
            error = library.eb_w4_pack(*sizes, ctypes.byref(handle))
            native.check(error, "pack", f"N={n}, K={k}, group={tensor.group}")
        else:
            place = (ctypes.c_int64 * 2)()
            error = library.eb_w4_pack_sparse(*sizes, place, ctypes.byref(handle))
            native.check(error, "pack", _where(error, tensor, place[0], place[1]))
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


def _where(error: int, tensor: Int4Tensor, row: int, first_input: int) -> str:
    """What came, with the place of the first four inputs that are not 2:4."""
    n, k = tensor.shape
    if error != native.PATTERN:
        return f"N={n}, K={k}, group={tensor.group}, layout 2:4 (K a multiple of 4)"
    return (
        f"row {row}, inputs {first_input}..{first_input + 3} have more; prune to 2:4 before "
        "quantizing, or pack with layout='dense'"
    )


def linear(packed: PackedInt4, x: NDArray[np.float32], path: str = "w4a16") -> NDArray[np.float32]:
    """y [M, N] = x [M, K] W^T in numpy, for callers without torch; `Int4Linear` is the fast one."""
    n, k = packed.shape
    if path not in LINEAR_DOORS:
        raise ValueError(f"[linear] path must be one of {', '.join(LINEAR_DOORS)}, got '{path}'")
    given: object = x  # who calls without torch may call without types
    if not isinstance(given, np.ndarray) or given.dtype != np.float32 or given.shape[1:] != (k,):
        came = type(given).__name__
        if isinstance(given, np.ndarray):
            came = f"{given.dtype} {list(given.shape)}"
        raise ValueError(f"[{path}] x must be float32 [M, K={k}], got {came}")
    y = np.empty((x.shape[0], n), dtype=np.float32)
    if x.shape[0]:
        source = np.require(x, requirements=("C", "A"))
        door = getattr(native.library(), LINEAR_DOORS[path])
        native.check(door(packed.handle, x.shape[0], source.ctypes.data, y.ctypes.data), path)
    return y
