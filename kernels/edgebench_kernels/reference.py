"""Reference twins in numpy, float64 and plain: what every kernel is held against.

Two questions, two functions: `linear_exact` is the truth (no activation rounding), `linear_twin` is
what a kernel of a path must compute, activations rounded as it rounds them but summed exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import Int4Tensor, dequantize, unpack_codes

# Largest |v|; 32512 = 256 * 127, see csrc/cpu/ops.h.
LEVELS = {"w4a16": 32512.0, "w4a8": 127.0, "w4a8-token": 127.0}
SMALLEST_PEAK = np.float32(1e-30)
ROWS = 64  # output rows of a packed block
_BLOCKS = (128, 64, 32)  # inputs of one, largest first


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedActivations:
    """x ~ scale * v in blocks of B inputs. v: int32 [M, blocks, B]; scale: float32 [M, blocks]."""

    v: NDArray[np.int32]
    scale: NDArray[np.float32]


def block_inputs(k: int, group: int) -> int:
    """Inputs that share one activation scale: the group, or where it spans K a part of it."""
    if group in _BLOCKS:
        return group
    return next((block for block in _BLOCKS if k % block == 0), _BLOCKS[-1])


def quantize_activations(x: NDArray[np.float32], block: int, path: str) -> QuantizedActivations:
    """Quantize x [M, K] as the kernels do, bit for bit: float32 arithmetic, ties to even."""
    m, k = x.shape
    blocks = -(-k // block)
    padded = np.zeros((m, blocks * block), dtype=np.float32)
    padded[:, :k] = x
    grouped = padded.reshape(m, blocks, block)
    levels = np.float32(LEVELS[path])
    peak = np.maximum(np.abs(grouped).max(axis=2), SMALLEST_PEAK)
    if path == "w4a8-token":  # one scale for all of a token's blocks
        peak = np.repeat(peak.max(axis=1, keepdims=True), blocks, axis=1)
    inverse = levels / peak
    v = np.rint(grouped * inverse[:, :, None]).astype(np.int32)
    return QuantizedActivations(v=v, scale=peak / levels)


def linear_exact(tensor: Int4Tensor, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """y [M, N] = x w^T on the dequantized weights, in float64."""
    return x.astype(np.float64) @ dequantize(tensor).astype(np.float64).T


def linear_twin(tensor: Int4Tensor, x: NDArray[np.float32], path: str) -> NDArray[np.float64]:
    """y [M, N] as `path` defines it: x rounded per token and block, everything else exact."""
    k = tensor.shape[1]
    quantized = quantize_activations(x, block_inputs(k, tensor.group), path)
    rounded = quantized.v * quantized.scale.astype(np.float64)[:, :, None]
    flat = rounded.reshape(x.shape[0], -1)[:, :k]
    return flat @ dequantize(tensor).astype(np.float64).T


def activation_error_bound(
    tensor: Int4Tensor, x: NDArray[np.float32], path: str
) -> NDArray[np.float64]:
    """Largest |twin - exact| [M, N] that rounding the activations can cause.

    |x - scale v| <= scale / 2 plus float32 rounding of x * inverse (one part in 2^23 of v), so
    |y - y'| <= sum over blocks of scale * (1/2 + levels 2^-22) * sum_k |w[n, k]|.
    """
    k = tensor.shape[1]
    block = block_inputs(k, tensor.group)
    scale = quantize_activations(x, block, path).scale.astype(np.float64)
    weight = np.zeros((tensor.shape[0], scale.shape[1] * block))
    weight[:, :k] = np.abs(dequantize(tensor))
    per_block = weight.reshape(tensor.shape[0], scale.shape[1], block).sum(axis=2)
    half_step = 0.5 + LEVELS[path] * 2.0**-22
    return half_step * scale @ per_block.T


def packed_layout(tensor: Int4Tensor) -> NDArray[np.uint8]:
    """The bytes that `csrc/int4_format.h` describes, built from its description in numpy."""
    n, k = tensor.shape
    inputs = block_inputs(k, tensor.group)
    blocks, rows = -(-k // inputs), -(-n // ROWS)
    group_of_block = np.arange(blocks) * inputs // tensor.group
    scale = np.zeros((rows * ROWS, blocks), dtype=np.float16)
    zero = np.zeros((rows * ROWS, blocks), dtype=np.uint8)
    scale[:n], zero[:n] = tensor.scale[:, group_of_block], tensor.zero[:, group_of_block]
    codes = np.repeat(zero, inputs, axis=1)  # inputs past K hold their row's zero point
    codes[:n, :k] = unpack_codes(tensor)
    # [row block, row, block, step, nibble, byte] -> [row block, block, step, row, byte, nibble]
    steps = codes.reshape(rows, ROWS, blocks, inputs // 8, 2, 4).transpose(0, 2, 3, 1, 5, 4)
    words = (steps[..., 0] | steps[..., 1] << 4).reshape(rows, blocks, -1)
    tails = [
        np.ascontiguousarray(array.reshape(rows, ROWS, blocks).transpose(0, 2, 1))
        for array in (scale, zero)
    ]
    parts = [words, *(tail.view(np.uint8).reshape(rows, blocks, -1) for tail in tails)]
    return np.concatenate(parts, axis=2).reshape(-1)
