"""The canonical tensor: round trip, exact dequantization, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels.formats import (
    Int4Tensor,
    choose_group,
    dequantize,
    fitting_group,
    pack_codes,
    unpack_codes,
)


def fields(n: int = 3, k: int = 64, group: int = 32) -> dict[str, object]:
    return {
        "qweight": np.zeros((n, k // 2), dtype=np.uint8),
        "scale": np.ones((n, k // group), dtype=np.float16),
        "zero": np.full((n, k // group), 8, dtype=np.uint8),
        "group": group,
    }


def test_low_nibble_is_even_k() -> None:
    codes = np.array([[1, 2, 15, 0]], dtype=np.uint8)
    assert pack_codes(codes).tolist() == [[0x21, 0x0F]]


@pytest.mark.parametrize(("n", "k", "group"), [(1, 32, 32), (5, 96, 32), (7, 20, 20)])
def test_codes_round_trip(n: int, k: int, group: int) -> None:
    codes = np.random.default_rng(0).integers(0, 16, (n, k), dtype=np.uint8)
    tensor = Int4Tensor(**{**fields(n, k, group), "qweight": pack_codes(codes)})  # type: ignore[arg-type]
    assert tensor.shape == (n, k)
    assert np.array_equal(unpack_codes(tensor), codes)


def test_dequantize_is_scale_times_code_minus_zero(make_tensor) -> None:
    tensor = make_tensor(1100, 2048, 128)  # more rows than one chunk
    codes = unpack_codes(tensor).reshape(1100, 16, 128).astype(np.float64)
    expected = (codes - tensor.zero[:, :, None]) * tensor.scale.astype(np.float64)[:, :, None]
    assert np.array_equal(dequantize(tensor), expected.reshape(1100, 2048))


def test_size_counts_codes_scales_and_zeros() -> None:
    assert Int4Tensor(**fields(3, 64, 32)).size_bytes == 3 * 32 + 3 * 2 * 2 + 3 * 2  # type: ignore[arg-type]


@pytest.mark.parametrize(("k", "group"), [(4096, 128), (192, 64), (96, 32), (32, 32)])
def test_choose_group_takes_the_largest_that_divides(k: int, group: int) -> None:
    assert choose_group(k) == group


@pytest.mark.parametrize("k", [0, -128, 48, 100])
def test_choose_group_refuses_what_no_group_divides(k: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 32, got K={k}"):
        choose_group(k)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"qweight": np.zeros((3, 32), dtype=np.int8)}, "qweight must be uint8"),
        ({"qweight": np.zeros(32, dtype=np.uint8)}, "two dimensions"),
        ({"qweight": [[0]]}, "qweight must be a numpy array, got list"),
        ({"scale": np.ones((3, 2), dtype=np.float32)}, "scale must be float16"),
        ({"scale": np.ones((3, 3), dtype=np.float16)}, r"scale must have shape .*\[3, 2\]"),
        ({"zero": np.zeros((2, 2), dtype=np.uint8)}, r"zero must have shape .*got \[2, 2\]"),
        ({"group": 48}, "group must be 32, 64, 128 or K=64, got 48"),
        ({"group": 128}, "K must be a multiple of group 128, got K=64"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Int4Tensor(**{**fields(), **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("k", "group", "expected"),
    [(384, 128, 128), (192, 128, 64), (96, 128, 32), (8, 128, 8), (48, 32, 48), (16, 16, 16)],
)
def test_whole_rows_are_one_group_where_no_group_divides(k: int, group: int, expected: int) -> None:
    assert fitting_group(k, group, whole_rows=True) == expected


def test_without_whole_rows_what_no_group_divides_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32, got K=48"):
        fitting_group(48, 128)
    with pytest.raises(ValueError, match="K must be even"):
        fitting_group(27, 128, whole_rows=True)
