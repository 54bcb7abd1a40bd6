"""Round-to-nearest group quantizer: from a weight matrix to the canonical INT4 tensor.

Asymmetric (the default): the range of a group is extended to contain 0, so that a group on one
side of 0 keeps its meaning, and 0 itself stays exactly 0:

    lo = min(w, 0)   hi = max(w, 0)   s = fp16((hi - lo) / 15)   z = rint(-lo / s)
    code = clip(rint(w / s) + z, 0, 15)

Symmetric: z = 8 and s = fp16(max|w| / 7.5), codes -8..7 (the variant of compressed-tensors).
All arithmetic is float32; the scale is rounded to fp16 *before* the codes are computed, and ties
go to the even neighbour, for the scale as for the codes. The same input gives the same bits on
every machine: minimum, maximum, IEEE division and rint leave no freedom.

Bound, for every weight and both forms, with s the stored scale and s' its value before rounding:

    |w - w^| <= s / 2 + qmax * max(0, s' - s)        (qmax = 15, or 7.5 when symmetric)

the last term because a scale rounded down no longer covers the whole range (s / 137 at most, above
fp16's subnormals).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import Int4Tensor, check_group, pack_codes

_CHUNK_ELEMENTS = 1 << 18  # about 1 MB of float32 at a time: the passes below run in cache
_SMALLEST_SCALE = np.float16(2.0**-24)  # smallest fp16 above 0: stands in where s rounds to 0
_BITS = (3, 4)


def quantize_rtn(
    weight: NDArray[np.float16] | NDArray[np.float32],
    group: int,
    bits: int = 4,
    symmetric: bool = False,
) -> Int4Tensor:
    """Quantize weight [N, K] in groups of `group` along K.

    bits=3 uses codes 0..7 in the same 4-bit container (zero point 4 when symmetric).
    Raises ValueError on a wrong dtype or shape, on NaN and infinity, and where a scale would not
    fit in fp16.
    """
    _check(weight, group, bits)
    n, k = weight.shape
    groups = k // group
    qweight = np.empty((n, k // 2), dtype=np.uint8)
    scale = np.empty((n, groups), dtype=np.float16)
    zero = np.empty((n, groups), dtype=np.uint8)
    rows = max(1, _CHUNK_ELEMENTS // k)
    for first in range(0, n, rows):
        part = slice(first, min(n, first + rows))
        chunk = weight[part].astype(np.float32).reshape(-1, groups, group)
        scale[part], zero[part] = _scale_and_zero(chunk, bits, symmetric)
        codes = _codes(chunk, scale[part], zero[part], bits)
        qweight[part] = pack_codes(codes.reshape(-1, k))
    return Int4Tensor(qweight=qweight, scale=scale, zero=zero, group=group)


def _scale_and_zero(
    chunk: NDArray[np.float32], bits: int, symmetric: bool
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """fp16 scale and zero point of every group of chunk [rows, groups, G]."""
    levels = np.float32(2**bits - 1)
    low = np.minimum(chunk.min(axis=2), np.float32(0))
    high = np.maximum(chunk.max(axis=2), np.float32(0))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("[quantize_rtn] weight must be finite, got NaN or infinity")
    if symmetric:
        exact = np.maximum(-low, high) / (levels / np.float32(2))
    else:
        exact = high / levels - low / levels  # two quotients: high - low may overflow float32
    if (exact > np.finfo(np.float16).max).any():
        raise ValueError(
            f"[quantize_rtn] the scale must fit in fp16 (<= 65504), got {exact.max():.6g}; "
            "rescale the weight"
        )
    scale = exact.astype(np.float16)
    scale[scale == 0] = _SMALLEST_SCALE
    if symmetric:
        zero = np.full(scale.shape, 2 ** (bits - 1), dtype=np.uint8)
    else:
        zero = np.clip(np.rint(-low / scale.astype(np.float32)), 0, levels).astype(np.uint8)
    return scale, zero


def _codes(
    chunk: NDArray[np.float32], scale: NDArray[np.float16], zero: NDArray[np.uint8], bits: int
) -> NDArray[np.uint8]:
    """Codes uint8 of chunk [rows, groups, G], which is overwritten."""
    chunk /= scale.astype(np.float32)[:, :, None]
    np.rint(chunk, out=chunk)
    chunk += zero.astype(np.float32)[:, :, None]
    np.clip(chunk, 0, 2**bits - 1, out=chunk)
    return chunk.astype(np.uint8)


def _check(weight: NDArray[np.generic], group: int, bits: int) -> None:
    if bits not in _BITS:
        raise ValueError(f"[quantize_rtn] bits must be 3 or 4, got {bits}")
    if weight.dtype not in (np.float16, np.float32) or weight.ndim != 2 or weight.shape[0] < 1:
        raise ValueError(
            "[quantize_rtn] weight must be float16 or float32 [N, K] with N >= 1, "
            f"got {weight.dtype} {list(weight.shape)}"
        )
    check_group(weight.shape[1], group, where="quantize_rtn")
