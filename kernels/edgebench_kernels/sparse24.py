"""2:4 sparse INT4 in numpy: which tensors are, what is kept of them, and the plain twins.

A weight is zero where its code is its group's zero point. The twins are what the packed layout
(`csrc/int4_sparse_format.h`) and the kernels over it are held against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import Int4Tensor, unpack_codes
from edgebench_kernels.reference import ROWS, block_inputs, quantize_activations

QUAD = 4
KEPT = 2
_SPAN = 32  # inputs of one span of the packed layout
_STRIPE = 32  # its output rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept24:
    """What is left of weights [N, K]: two codes of each four inputs, and where they lie.

    code: uint8 [N, K/4, 2], 0..15.   index: uint8 [N, K/4, 2], 0..3, ascending.
    """

    code: NDArray[np.uint8]
    index: NDArray[np.uint8]


def is_24(tensor: Int4Tensor) -> bool:
    """True where no four inputs of a row have more than two weights that are not zero."""
    return tensor.shape[1] % QUAD == 0 and bool((_nonzero(tensor).sum(axis=2) <= KEPT).all())


def keep_24(tensor: Int4Tensor) -> Kept24:
    """Take the two inputs of every four that are not zero; with fewer, the first zeros too.

    Raises ValueError that names the row and the inputs of the first four that have more.
    """
    n, k = tensor.shape
    if k % QUAD:
        raise ValueError(f"[sparse24] K must be a multiple of {QUAD}, got K={k}")
    nonzero = _nonzero(tensor)
    wrong = np.argwhere(nonzero.sum(axis=2) > KEPT)
    if len(wrong):
        row, quad = wrong[0]
        raise ValueError(
            f"[sparse24] expected at most {KEPT} weights that are not zero in every {QUAD} inputs, "
            f"got {int(nonzero[row, quad].sum())} in row {row}, inputs {QUAD * quad}.."
            f"{QUAD * quad + QUAD - 1}; prune to 2:4 before quantizing"
        )
    index = np.sort(np.argsort(~nonzero, axis=2, kind="stable")[:, :, :KEPT], axis=2)
    codes = unpack_codes(tensor).reshape(n, k // QUAD, QUAD)
    code = np.take_along_axis(codes, index, axis=2)
    return Kept24(code=code, index=index.astype(np.uint8))


def linear_twin_24(
    tensor: Int4Tensor, x: NDArray[np.float32], path: str = "w4a16"
) -> NDArray[np.float64]:
    """y [M, N] from the kept weights alone, as the 2:4 kernels sum them: integers, then float64."""
    kept = keep_24(tensor)
    k = tensor.shape[1]
    quantized = quantize_activations(x, block_inputs(k, tensor.group), path)
    m, blocks, inputs = quantized.v.shape
    v = quantized.v.reshape(m, blocks * inputs)[:, :k].reshape(m, k // QUAD, QUAD)
    steps = np.repeat(quantized.scale.astype(np.float64), inputs, axis=1)[:, :k:QUAD]
    groups = np.arange(0, k, QUAD) // tensor.group
    y = np.empty((m, tensor.shape[0]))
    for row in range(tensor.shape[0]):
        zero = tensor.zero[row, groups].astype(np.int64)[:, None]
        weight = kept.code[row].astype(np.int64) - zero
        met = np.take_along_axis(v, kept.index[row].astype(np.int64)[None], axis=2)
        sums = (met * weight).sum(axis=2)  # [M, K/4], exact
        y[:, row] = (sums * steps * tensor.scale[row, groups].astype(np.float64)).sum(axis=1)
    return y


def packed_layout_24(tensor: Int4Tensor) -> NDArray[np.uint8]:
    """The packed bytes as `csrc/int4_sparse_format.h` describes them, built the slow way."""
    kept, (n, k) = keep_24(tensor), tensor.shape
    inputs = block_inputs(k, tensor.group)
    spans = inputs // _SPAN
    rows, blocks = -(-n // ROWS), -(-k // inputs)
    words = np.zeros((rows, blocks, ROWS // _STRIPE, spans, 3, _STRIPE), dtype=np.uint32)
    scale = np.zeros((rows, blocks, ROWS), dtype=np.float16)
    zero = np.zeros((rows, blocks, ROWS), dtype=np.uint8)
    for row, block in np.ndindex(n, blocks):
        group = block * inputs // tensor.group
        lane = row % ROWS
        scale[row // ROWS, block, lane] = tensor.scale[row, group]
        zero[row // ROWS, block, lane] = tensor.zero[row, group]
        for quad in range(inputs // QUAD):
            own = words[
                row // ROWS, block, lane // _STRIPE, QUAD * quad // _SPAN, :, lane % _STRIPE
            ]
            _put(own, quad % (_SPAN // QUAD), _quad(kept, row, block * inputs // QUAD + quad, zero))
    whole = [words.reshape(rows, blocks, -1).view(np.uint8), scale.view(np.uint8), zero]
    return np.concatenate(whole, axis=2).reshape(-1)


def _quad(
    kept: Kept24, row: int, quad: int, zero: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Codes and places of one quad; past K, zeros at the first two places."""
    if quad < kept.code.shape[1]:
        return kept.code[row, quad], kept.index[row, quad]
    padding = np.full(KEPT, zero[row // ROWS, -1, row % ROWS], dtype=np.uint8)
    return padding, np.arange(KEPT, dtype=np.uint8)


def _put(
    words: NDArray[np.uint32], quad: int, own: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    """Add a quad to its row's three words: index, codes[0], codes[1]."""
    octet = quad // 2
    for slot, (code, index) in enumerate(zip(*own, strict=True)):
        byte = quad % 2 * KEPT + slot
        words[0] |= np.uint32(int(index) << (8 * byte + 2 * octet))
        words[1 + octet // 2] |= np.uint32(int(code) << (8 * byte + 4 * (octet % 2)))


def _nonzero(tensor: Int4Tensor) -> NDArray[np.bool_]:
    """bool [N, K/4, 4]: where the code is not the zero point."""
    n, k = tensor.shape
    zero = np.repeat(tensor.zero, tensor.group, axis=1)
    return (unpack_codes(tensor) != zero).reshape(n, k // QUAD, QUAD)
