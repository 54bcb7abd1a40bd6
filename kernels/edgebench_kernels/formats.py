"""The canonical INT4 tensor: unsigned 4-bit codes with one fp16 scale and one zero point per group.

    w[n, k] = scale[n, k // G] * (code[n, k] - zero[n, k // G])

Bundles hold this form; every hardware layout is derived from it (`packing.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS = (128, 64, 32)  # fixed group sizes, largest first; group = K (one per row) is allowed too
SYMMETRIC_ZERO = 8  # the zero point that a symmetric 4-bit tensor stores
MAX_CODE = 15

_ROWS_PER_CHUNK_ELEMENTS = 1 << 20  # unpack this many codes at a time: temporaries stay in cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Tensor:
    """One weight matrix [N out, K in] in canonical form; the fields are checked on construction.

    qweight: uint8 [N, K/2], low nibble = even k, high nibble = odd k.
    scale: float16 [N, K/G].   zero: uint8 [N, K/G].   group: G in {32, 64, 128, K}.
    Raises ValueError that names the field, what was expected and what came.
    """

    qweight: NDArray[np.uint8]
    scale: NDArray[np.float16]
    zero: NDArray[np.uint8]
    group: int

    def __post_init__(self) -> None:
        check_array("qweight", self.qweight, np.uint8, where="Int4Tensor")
        check_array("scale", self.scale, np.float16, where="Int4Tensor")
        check_array("zero", self.zero, np.uint8, where="Int4Tensor")
        n, k = self.shape
        check_group(k, self.group, where="Int4Tensor")
        expected = (n, k // self.group)
        for name, array in (("scale", self.scale), ("zero", self.zero)):
            if array.shape != expected:
                raise ValueError(
                    f"[Int4Tensor] {name} must have shape [N, K/G] = {list(expected)}, "
                    f"got {list(array.shape)}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the weight matrix that the codes stand for."""
        return self.qweight.shape[0], 2 * self.qweight.shape[1]

    @property
    def size_bytes(self) -> int:
        """Bytes of codes, scales and zero points together."""
        return self.qweight.nbytes + self.scale.nbytes + self.zero.nbytes


def check_group(k: int, group: int, *, where: str) -> None:
    """Raise ValueError unless `group` is 32, 64, 128 or K and divides an even K >= 2."""
    if k < 2 or k % 2:
        raise ValueError(f"[{where}] K must be even and at least 2, got K={k}; pad the last input")
    given: object = group  # 128.0 is in GROUPS too
    if not isinstance(given, int | np.integer) or given not in (*GROUPS, k):
        raise ValueError(f"[{where}] group must be 32, 64, 128 or K={k}, got {group}")
    if k % group:
        raise ValueError(
            f"[{where}] K must be a multiple of group {group}, got K={k}; "
            "take a smaller group or pad K with zero weights"
        )


def choose_group(k: int) -> int:
    """The largest of 128, 64 and 32 that divides K; ValueError when none does."""
    for group in GROUPS:
        if k > 0 and k % group == 0:
            return group
    raise ValueError(
        f"[choose_group] K must be a multiple of 32, got K={k}; pad K with zero weights "
        "or quantize with group=K"
    )


def fitting_group(k: int, group: int, *, whole_rows: bool = False) -> int:
    """`group` where it divides K, else the largest of 128, 64 and 32 that does.

    Where none does: K itself with whole_rows, else ValueError.
    """
    if k % group == 0:
        return group
    if whole_rows and all(k % fixed for fixed in GROUPS):
        check_group(k, k, where="fitting_group")
        return k
    return choose_group(k)


def pack_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """codes uint8 [N, K] in 0..15 -> qweight uint8 [N, K/2]."""
    return codes[:, 0::2] | (codes[:, 1::2] << np.uint8(4))


def unpack_codes(tensor: Int4Tensor) -> NDArray[np.uint8]:
    """The codes as uint8 [N, K], values 0..15."""
    n, k = tensor.shape
    codes = np.empty((n, k), dtype=np.uint8)
    np.bitwise_and(tensor.qweight, 0x0F, out=codes[:, 0::2])
    np.right_shift(tensor.qweight, 4, out=codes[:, 1::2])
    return codes


def dequantize(tensor: Int4Tensor) -> NDArray[np.float32]:
    """The weights that the codes stand for, float32 [N, K], exact (11 + 4 bits fit in 24)."""
    n, k = tensor.shape
    weight = np.empty((n, k), dtype=np.float32)
    rows = max(1, _ROWS_PER_CHUNK_ELEMENTS // k)
    for first in range(0, n, rows):
        part = slice(first, first + rows)
        qweight, scale, zero = tensor.qweight[part], tensor.scale[part], tensor.zero[part]
        out = weight[part].reshape(qweight.shape[0], k // tensor.group, tensor.group)
        flat = weight[part]
        flat[:, 0::2] = qweight & 0x0F
        flat[:, 1::2] = qweight >> 4
        out -= zero[:, :, None].astype(np.float32)
        out *= scale[:, :, None].astype(np.float32)
    return weight


def tensor_sha256(tensor: Int4Tensor) -> str:
    """Hex SHA-256 of a tensor: dtype, shape and little-endian bytes of qweight, scale and zero."""
    digest = hashlib.sha256()
    for name, dtype in (("qweight", "u1"), ("scale", "<f2"), ("zero", "u1")):
        array = np.ascontiguousarray(getattr(tensor, name), dtype=dtype)
        digest.update(f"{name} {dtype} {array.shape[0]}x{array.shape[1]}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def check_array(name: str, array: object, dtype: type[np.generic], *, where: str) -> None:
    """Raise ValueError unless an array is numpy's, of that type and [N, K] with N >= 1."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"[{where}] {name} must be a numpy array, got {type(array).__name__}")
    if array.dtype != dtype or array.ndim != 2 or array.shape[0] < 1:
        raise ValueError(
            f"[{where}] {name} must be {np.dtype(dtype).name} with two dimensions and N >= 1, "
            f"got {array.dtype} {list(array.shape)}"
        )
