"""The canonical INT8 weight: signed codes with one fp16 scale per output channel, symmetric.

    w[n, k] = scale[n] * code[n, k]
    scale = fp16(max|w| / 127)      code = clip(rint(w / scale), -127, 127)

For weights that are no matrix product, such as those of a depthwise convolution: they run
dequantized. All arithmetic is float32, the scale is rounded to fp16 before the codes, and ties go
to the even neighbour, so that the same input gives the same bits on every machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import check_array

LIMIT = 127  # symmetric: -128 is never used
_SMALLEST_SCALE = np.float16(2.0**-24)  # smallest fp16 above 0: stands in where a scale rounds to 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Tensor:
    """One weight as a matrix [N out, K]; the fields are checked on construction.

    codes: int8 [N, K] in -127..127.   scale: float16 [N, 1].
    Raises ValueError that names the field, what was expected and what came.
    """

    codes: NDArray[np.int8]
    scale: NDArray[np.float16]

    def __post_init__(self) -> None:
        check_array("codes", self.codes, np.int8, where="Int8Tensor")
        check_array("scale", self.scale, np.float16, where="Int8Tensor")
        if not self.codes.size or self.scale.shape != (len(self.codes), 1):
            raise ValueError(
                f"[Int8Tensor] scale must have shape [N, 1] = [{len(self.codes)}, 1] and codes "
                f"some elements, got {list(self.scale.shape)} and {list(self.codes.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the weight that the codes stand for."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def size_bytes(self) -> int:
        """Bytes of codes and scales together."""
        return self.codes.nbytes + self.scale.nbytes


def quantize_int8(weight: NDArray[np.float16] | NDArray[np.float32]) -> Int8Tensor:
    """Round weight [N, K] to nearest, a scale a row.

    Raises ValueError on a wrong shape, on NaN and infinity, and where a scale exceeds fp16.
    """
    exact = np.asarray(weight, dtype=np.float32)
    if exact.ndim != 2 or not exact.size:
        raise ValueError(f"[quantize_int8] weight must be [N, K], got {list(exact.shape)}")
    if not np.isfinite(exact).all():
        raise ValueError("[quantize_int8] weight must be finite, got NaN or infinity")
    wide = np.abs(exact).max(axis=1, keepdims=True) / np.float32(LIMIT)
    if (wide > np.finfo(np.float16).max).any():
        raise ValueError(
            f"[quantize_int8] the scale must fit in fp16 (<= 65504), got {wide.max():.6g}; "
            "rescale the weight"
        )
    scale = wide.astype(np.float16)
    scale[scale == 0] = _SMALLEST_SCALE
    codes = np.clip(np.rint(exact / scale.astype(np.float32)), -LIMIT, LIMIT)
    return Int8Tensor(codes=codes.astype(np.int8), scale=scale)


def dequantize_int8(tensor: Int8Tensor) -> NDArray[np.float32]:
    """The weight that the codes stand for, float32 [N, K], exact (11 + 7 bits fit in 24)."""
    return tensor.codes.astype(np.float32) * tensor.scale.astype(np.float32)


def int8_sha256(tensor: Int8Tensor) -> str:
    """Hex SHA-256 of a tensor: dtype, shape and little-endian bytes of codes and scale."""
    digest = hashlib.sha256()
    for name, dtype in (("codes", "i1"), ("scale", "<f2")):
        array = np.ascontiguousarray(getattr(tensor, name), dtype=dtype)
        digest.update(f"{name} {dtype} {array.shape[0]}x{array.shape[1]}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
