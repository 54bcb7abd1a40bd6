"""The packed layout: native bytes equal the described ones, and the golden."""

from __future__ import annotations

import gc
import hashlib
import weakref

import numpy as np
import pytest

from edgebench_kernels import reference
from edgebench_kernels.formats import Int4Tensor, pack_codes
from edgebench_kernels.packing import PackedInt4, linear

pytestmark = pytest.mark.native


def tiny() -> Int4Tensor:
    """[2, 32]: codes count up along K (row 1 down), scales 1 and 0.5, zero points 8 and 3."""
    up = np.arange(32, dtype=np.uint8) % 16
    return Int4Tensor(
        qweight=pack_codes(np.stack([up, 15 - up])),
        scale=np.array([[1.0], [0.5]], dtype=np.float16),
        zero=np.array([[8], [3]], dtype=np.uint8),
        group=32,
    )


def test_golden_bytes_of_a_tiny_tensor() -> None:
    # Byte b of a word: input k+b in the low nibble, k+4+b in the high one (int4_format.h).
    packed = PackedInt4(tiny()).packed_bytes().tobytes()
    assert len(packed) == 4 * 256 + 128 + 64
    assert packed[:8].hex() == "40516273" + "bfae9d8c"
    assert packed[256:264].hex() == "c8d9eafb" + "37261504"
    assert packed[8:256] == bytes(248)  # rows 2..63 are padding
    assert packed[1024:1028].hex() == "003c" + "0038"  # fp16 1.0, 0.5
    assert packed[1152:1155] == bytes([8, 3, 0])
    assert (
        hashlib.sha256(packed).hexdigest()
        == "0291b658cc2227a391f58ca11776cdd6018623b01d8223daa0f89a0224aeef59"
    )


def test_native_bytes_are_the_described_ones(make_tensor, shape: tuple[int, int, int]) -> None:
    tensor = make_tensor(*shape)
    assert np.array_equal(PackedInt4(tensor).packed_bytes(), reference.packed_layout(tensor))


def test_large_buffers_are_aligned_for_huge_pages(make_tensor) -> None:
    view = PackedInt4(make_tensor(2048, 2048, 128)).packed_bytes()
    assert view.ctypes.data % (2 << 20) == 0


def test_non_contiguous_fields_are_packed_right(make_tensor) -> None:
    tensor = make_tensor(8, 64, 32)
    strided = Int4Tensor(
        qweight=np.asfortranarray(tensor.qweight),
        scale=np.asfortranarray(tensor.scale),
        zero=np.asfortranarray(tensor.zero),
        group=32,
    )
    assert np.array_equal(PackedInt4(strided).packed_bytes(), PackedInt4(tensor).packed_bytes())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scales_that_are_not_finite_are_refused(make_tensor, bad: float) -> None:
    tensor = make_tensor(3, 64, 32)
    tensor.scale[2, 1] = bad
    with pytest.raises(ValueError, match=r"\[pack\] scale must be finite.*N=3, K=64, group=32"):
        PackedInt4(tensor)


def test_zero_points_above_15_are_refused(make_tensor) -> None:
    tensor = make_tensor(3, 64, 32)
    tensor.zero[0, 0] = 16
    with pytest.raises(ValueError, match=r"zero points must be 0\.\.15"):
        PackedInt4(tensor)


def test_memory_lives_as_long_as_a_view(make_tensor) -> None:
    packed = PackedInt4(make_tensor(3, 64, 32))
    alive, view = weakref.ref(packed), packed.packed_bytes()
    expected = view.copy()
    del packed
    gc.collect()
    assert np.array_equal(view, expected)
    assert alive() is not None
    del view
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("x", "path", "text"),
    [
        (np.zeros((1, 63), dtype=np.float32), "w4a16", r"x must be float32 \[M, K=64\]"),
        (np.zeros((1, 64), dtype=np.float64), "w4a8", "got float64"),
        (
            np.zeros((1, 64), dtype=np.float32),
            "w4a4",
            "path must be one of w4a16, w4a8, w4a8-token, got 'w4a4'",
        ),
    ],
)
def test_wrong_activations_are_refused(make_tensor, x: np.ndarray, path: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        linear(PackedInt4(make_tensor(3, 64, 32)), x, path)
