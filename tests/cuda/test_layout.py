"""Layout T16x64: the packer against the header's picture, round trips, refusals."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgebench_kernels.cuda.layout import (
    PackedT16x64,
    kernel_group,
    pack,
    padded_inputs,
    source_rows,
    unpack,
)
from edgebench_kernels.formats import Int4Tensor, unpack_codes

SHAPES = [  # N, K, G
    (1, 32, 32),
    (17, 64, 64),
    (64, 128, 128),
    (33, 96, 32),
    (16, 192, 64),
    (40, 96, 96),
    (5, 20, 20),
    (48, 512, 512),
    (130, 384, 128),
]


def random_tensor(n: int, k: int, group: int, seed: int = 0) -> Int4Tensor:
    rng = np.random.default_rng(seed)
    return Int4Tensor(
        qweight=rng.integers(0, 256, (n, k // 2), dtype=np.uint8),
        scale=rng.lognormal(-4, 1, (n, k // group)).astype(np.float16),
        zero=rng.integers(0, 16, (n, k // group), dtype=np.uint8),
        group=group,
    )


def by_the_picture(tensor: Int4Tensor, packed: PackedT16x64) -> np.ndarray:
    """The bytes as csrc/int4_format_cuda.h draws them: loops over lanes, words and fields."""
    n, k = tensor.shape
    group, span = packed.group, max(64, packed.group)
    codes = unpack_codes(tensor)
    rows = source_rows(n, packed.pair)

    def scale_and_zero(row: int, block_group: int) -> tuple[bytes, int]:
        at = block_group * group // tensor.group
        if row >= n or at >= k // tensor.group:
            return b"\0\0", 0
        return tensor.scale[row, at].tobytes(), int(tensor.zero[row, at])

    def code(row: int, at: int) -> int:
        is_inside = row < n and at < k
        return int(codes[row, at]) if is_inside else scale_and_zero(row, at // group)[1]

    def word(of: list[int], g: int, at: int) -> bytes:
        fields = [code(of[g + h * 8], at + 8 * kk + e) for e, kk, h in np.ndindex(2, 2, 2)]
        return sum(field << (4 * i) for i, field in enumerate(fields)).to_bytes(4, "little")

    def group_bytes(of: list[int], index: int) -> bytes:
        pairs = [scale_and_zero(of[g + h * 8], index) for g, h in np.ndindex(8, 2)]
        zeros = bytes(zero << 4 * (i % 2) for i, (_, zero) in enumerate(pairs))
        return b"".join(scale for scale, _ in pairs) + zeros

    parts: list[bytes] = []
    for tile_row, block in np.ndindex(len(rows) // 16, padded_inputs(k) // span):
        of = [int(row) for row in rows[16 * tile_row : 16 * tile_row + 16]]
        for tile, g, q, j in np.ndindex(span // 64, 8, 4, 4):
            parts.append(word(of, g, block * span + tile * 64 + 16 * j + 2 * q))
        first = block * (span // group)
        parts.extend(group_bytes(of, first + index) for index in range(span // group))
    return np.frombuffer(b"".join(parts), np.uint8)


@pytest.mark.parametrize(("n", "k", "group"), SHAPES)
def test_bytes_are_those_of_the_picture(n: int, k: int, group: int) -> None:
    tensor = random_tensor(n, k, group)
    packed = pack(tensor)
    assert np.array_equal(packed.data.reshape(-1), by_the_picture(tensor, packed))


@pytest.mark.parametrize(
    ("n", "k", "group", "pair"), [(40, 96, 32, 20), (64, 128, 128, 16), (96, 64, 64, 8)]
)
def test_interleaved_rows_are_those_of_the_picture(n: int, k: int, group: int, pair: int) -> None:
    tensor = random_tensor(n, k, group)
    packed = pack(tensor, pair=pair)
    assert np.array_equal(packed.data.reshape(-1), by_the_picture(tensor, packed))
    again = unpack(packed)
    assert np.array_equal(again.qweight, tensor.qweight)
    assert np.array_equal(again.scale, tensor.scale)


@pytest.mark.parametrize(("n", "k", "group"), SHAPES)
def test_unpack_gives_the_tensor_again(n: int, k: int, group: int) -> None:
    tensor = random_tensor(n, k, group)
    again = unpack(pack(tensor))
    assert again.group == group
    for name in ("qweight", "scale", "zero"):
        assert np.array_equal(getattr(again, name), getattr(tensor, name)), name


def test_golden_bytes() -> None:
    """Regenerate: print the digest below for the new layout."""
    count = np.arange(33 * 96)
    tensor = Int4Tensor(
        qweight=(count[: 33 * 48] * 37 % 256).astype(np.uint8).reshape(33, 48),
        scale=(count[: 33 * 3] / 64).astype(np.float16).reshape(33, 3),
        zero=(count[: 33 * 3] % 16).astype(np.uint8).reshape(33, 3),
        group=32,
    )
    data = pack(tensor).data
    assert data.shape == (3, 2 * 608)
    digest = hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
    assert digest == "a5574fa5c27257671fca130c3f1eb748e1ae2d99c5d183dc303bbf97235f421a"


def test_one_code_lands_where_the_header_says() -> None:
    qweight = np.zeros((16, 32), dtype=np.uint8)
    qweight[11, 25 // 2] = 0xA0  # row 11 = g 3 + 8; input 25 = 16 * 1 + 8 + 1: j 1, kk 1, q 0, e 1
    ones, zeros = np.ones((16, 1), dtype=np.float16), np.zeros((16, 1), dtype=np.uint8)
    packed = pack(Int4Tensor(qweight=qweight, scale=ones, zero=zeros, group=64))
    words = packed.data[0, :512].view("<u4").reshape(32, 4)
    assert [tuple(i) for i in np.argwhere(words)] == [(12, 1)]
    assert words[12, 1] == 0xA << 28  # a[3].hi


def test_swiglu_pairs_gate_and_up() -> None:
    rows = source_rows(40, pair=20)
    assert rows[:8].tolist() == list(range(8))
    assert rows[8:16].tolist() == list(range(20, 28))
    assert rows[32:36].tolist() == [16, 17, 18, 19]
    assert (rows[36:40] >= 40).all()
    assert sorted(rows[rows < 40]) == list(range(40))


def test_rope_pairs_stay_in_their_head() -> None:
    rows = source_rows(96, pair=16)  # heads of 32
    assert rows[16:32].tolist() == [*range(8, 16), *range(24, 32)]
    assert rows[32:48].tolist() == [*range(32, 40), *range(48, 56)]


@pytest.mark.parametrize(
    ("k", "group", "expected"),
    [(4096, 128, 128), (96, 32, 32), (512, 512, 128), (192, 192, 64), (20, 20, 64), (96, 96, 128)],
)
def test_a_group_that_spans_k_becomes_blocks(k: int, group: int, expected: int) -> None:
    assert kernel_group(k, group) == expected


def test_pairs_must_divide_the_rows() -> None:
    with pytest.raises(ValueError, match=r"multiple of 2 \* pair, got N=48, pair=20"):
        pack(random_tensor(48, 64, 64), pair=20)
