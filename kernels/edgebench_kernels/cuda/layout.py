"""Layout T16x64 of an `Int4Tensor`, which GPU kernels read (csrc/int4_format_cuda.h), in numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import GROUPS, Int4Tensor, pack_codes, unpack_codes

TILE_ROWS = 16
TILE_INPUTS = 64
CODE_BYTES = 512  # of a tile
GROUP_BYTES = 48  # scales and zero points of 16 rows

_CHUNK_CODES = 1 << 22  # unpacked codes held at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedT16x64:
    """A weight matrix [N, K] in layout T16x64.

    data: uint8 [ceil(N / 16), bytes of 16 rows].   group: 32, 64 or 128, what kernels are compiled
    for.   pair: distance of the interleaved rows, 0 for none.   source_group: G as quantized.
    """

    data: NDArray[np.uint8]
    n: int
    k: int
    group: int
    pair: int
    source_group: int


def kernel_group(k: int, group: int) -> int:
    """The group that kernels are compiled for: `group`, or blocks of it where it spans K."""
    if group in GROUPS:
        return group
    return 128 if padded_inputs(k) % 128 == 0 else 64


def padded_inputs(k: int) -> int:
    """K rounded up to whole tiles."""
    return -(-k // TILE_INPUTS) * TILE_INPUTS


def source_rows(n: int, pair: int = 0) -> NDArray[np.int64]:
    """For each packed row the row of the weight matrix that it holds; N or more is padding."""
    rows = np.arange(-(-n // TILE_ROWS) * TILE_ROWS)
    if pair == 0:
        return rows
    first = rows // TILE_ROWS * 8 + rows % 8
    return first // pair * 2 * pair + first % pair + np.where(rows % TILE_ROWS < 8, 0, pair)


def pack(tensor: Int4Tensor, *, pair: int = 0) -> PackedT16x64:
    """Pack `tensor`; with `pair` P, rows i and i + P of each 2 P rows share a lane.

    Raises ValueError unless 2 P divides N and a whole number of tiles holds the pairs.
    """
    n, k = tensor.shape
    if pair and n % (2 * pair):
        raise ValueError(f"[pack] N must be a multiple of 2 * pair, got N={n}, pair={pair}")
    group = kernel_group(k, tensor.group)
    rows = source_rows(n, pair)
    chunk = max(TILE_ROWS, _CHUNK_CODES // padded_inputs(k) // TILE_ROWS * TILE_ROWS)
    parts = [_pack_rows(tensor, rows[i : i + chunk], group) for i in range(0, len(rows), chunk)]
    return PackedT16x64(
        data=np.concatenate(parts), n=n, k=k, group=group, pair=pair, source_group=tensor.group
    )


def unpack(packed: PackedT16x64) -> Int4Tensor:
    """The canonical tensor again, bit for bit."""
    n, k, group = packed.n, packed.k, packed.group
    blocks = packed.data.reshape(packed.data.shape[0], -1, _block_bytes(group))
    tiles = max(1, group // TILE_INPUTS)
    words = blocks[:, :, : tiles * CODE_BYTES]
    # [row of tiles, block, tile, g, q, j, e, kk] bytes -> + half: see `_pack_rows`
    nibbles = np.stack([words & 15, words >> 4], axis=-1)
    nibbles = nibbles.reshape(len(blocks), -1, tiles, 8, 4, 4, 2, 2, 2)
    codes = nibbles.transpose(0, 8, 3, 1, 2, 5, 7, 4, 6).reshape(len(blocks) * TILE_ROWS, -1)
    groups = blocks[:, :, tiles * CODE_BYTES :].reshape(len(blocks), -1, GROUP_BYTES)
    scale = groups[:, :, :32].copy().view(np.float16).reshape(len(blocks), -1, 8, 2)
    zero = groups[:, :, 32:].reshape(len(blocks), -1, 8, 2) >> np.array([0, 4], np.uint8)
    scale, zero = (
        array.transpose(0, 3, 2, 1).reshape(len(blocks) * TILE_ROWS, -1) for array in (scale, zero)
    )
    order = np.argsort(source_rows(n, packed.pair), kind="stable")[:n]
    first = np.arange(k // packed.source_group) * packed.source_group // group
    return Int4Tensor(
        qweight=pack_codes(codes[order, :k]),
        scale=scale[order][:, first],
        zero=zero[order][:, first],
        group=packed.source_group,
    )


def _block_bytes(group: int) -> int:
    tiles = max(1, group // TILE_INPUTS)
    return tiles * CODE_BYTES + tiles * TILE_INPUTS // group * GROUP_BYTES


def _pack_rows(tensor: Int4Tensor, rows: NDArray[np.int64], group: int) -> NDArray[np.uint8]:
    """uint8 [len(rows) / 16, bytes of 16 rows] of the source rows `rows`."""
    n, k = tensor.shape
    inputs = padded_inputs(k)
    taken = rows[rows < n]
    group_of_block = np.arange(inputs // group) * group // tensor.group
    is_inside = group_of_block < k // tensor.group
    scale = np.zeros((len(rows), inputs // group), dtype=np.float16)
    zero = np.zeros((len(rows), inputs // group), dtype=np.uint8)
    inside = np.ix_(rows < n, is_inside)
    scale[inside] = tensor.scale[np.ix_(taken, group_of_block[is_inside])]
    zero[inside] = tensor.zero[np.ix_(taken, group_of_block[is_inside])]
    codes = np.repeat(zero, group, axis=1)
    chosen = {name: getattr(tensor, name)[taken] for name in ("qweight", "scale", "zero")}
    codes[rows < n, :k] = unpack_codes(replace(tensor, **chosen))
    return _blocks(codes, scale, zero, group)


def _blocks(
    codes: NDArray[np.uint8], scale: NDArray[np.float16], zero: NDArray[np.uint8], group: int
) -> NDArray[np.uint8]:
    """The bytes of padded codes [rows, inputs] with their scales and zeros [rows, groups]."""
    tiles, of_block = len(codes) // TILE_ROWS, max(1, group // TILE_INPUTS)
    # row = 8 half + g;  input = 64 tile + 16 j + 8 kk + 2 q + e
    split = codes.reshape(tiles, 2, 8, -1, of_block, 4, 2, 4, 2)
    split = split.transpose(0, 3, 4, 2, 7, 5, 8, 6, 1)  # -> tile, g, q, j, e, kk, half
    words = (split[..., 0] | split[..., 1] << 4).reshape(tiles, -1, of_block * CODE_BYTES)
    halves = (  # [tiles, groups, g, half]
        array.reshape(tiles, 2, 8, -1).transpose(0, 3, 2, 1) for array in (scale, zero)
    )
    scales, zeros = (np.ascontiguousarray(array) for array in halves)
    zeros = zeros << np.array([0, 4], dtype=np.uint8)
    tail = np.concatenate(
        [
            scales.view(np.uint8).reshape(tiles, -1, 32),
            zeros.reshape(tiles, -1, 16),
        ],
        axis=2,
    )
    blocks = np.concatenate([words, tail.reshape(tiles, words.shape[1], -1)], axis=2)
    return blocks.reshape(tiles, -1)
