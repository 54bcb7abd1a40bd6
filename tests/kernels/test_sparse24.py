"""2:4 INT4: the layout, its refusals, and the kernels of every instruction set over it."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels import native, reference, sparse24
from edgebench_kernels.formats import Int4Tensor, dequantize, pack_codes, unpack_codes
from edgebench_kernels.packing import PackedInt4, linear

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("restored_native")]

# One token by the sparse kernel, the rest expanded: few, a cut register tile, more than one chunk.
TOKENS = (1, 2, 5, 13, 250)
PATHS = ("w4a16", "w4a8", "w4a8-token")
# The shapes of conftest, and one of several block rows and blocks whose last row is short.
SHAPES = (
    *((1, 32, 32), (17, 128, 128), (64, 128, 64), (65, 256, 32), (130, 384, 128), (33, 96, 96)),
    *((40, 20, 20), (70, 512, 512), (200, 1024, 128)),
)


def every_isa() -> tuple[str, ...]:
    return native.supported_isas() if native.is_available() else ("scalar",)


def sparse(tensor: Int4Tensor, seed: int = 3) -> Int4Tensor:
    """Two random inputs of every four become zero; in one quad of eight a third one does too."""
    n, k = tensor.shape
    rng = np.random.default_rng(seed)
    order = rng.random((n, k // 4, 4)).argsort(axis=2)
    gone = (order < 2) | ((order == 2) & (rng.random((n, k // 4, 1)) < 0.125))
    zero = np.repeat(tensor.zero, tensor.group, axis=1)
    codes = np.where(gone.reshape(n, k), zero, unpack_codes(tensor))
    return Int4Tensor(
        qweight=pack_codes(codes.astype(np.uint8)),
        scale=tensor.scale,
        zero=tensor.zero,
        group=tensor.group,
    )


def activations(m: int, k: int) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((m, k), dtype=np.float32)
    x[:, ::97] *= 1000.0
    return x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_native_bytes_are_the_described_ones(make_tensor, shape: tuple[int, int, int]) -> None:
    tensor = sparse(make_tensor(*shape))
    packed = PackedInt4(tensor, "2:4")
    assert np.array_equal(packed.packed_bytes(), sparse24.packed_layout_24(tensor))
    assert packed.size_bytes < PackedInt4(tensor).size_bytes


def test_golden_bytes_of_a_tiny_tensor() -> None:
    # Row 0 keeps inputs 1 and 3 of every four, with codes 1 and 2: index bytes 01 and 11 in all
    # four octets, that is 0x55 and 0xff. Zero point 8. Regenerate: this test's own prints.
    codes = np.tile(np.array([8, 1, 8, 2], dtype=np.uint8), 8)[None]
    tensor = Int4Tensor(
        qweight=pack_codes(codes),
        scale=np.array([[1.0]], dtype=np.float16),
        zero=np.array([[8]], dtype=np.uint8),
        group=32,
    )
    packed = PackedInt4(tensor, "2:4").packed_bytes().tobytes()
    assert len(packed) == 2 * 384 + 128 + 64
    assert packed[:4].hex() == "55ff55ff"
    assert packed[128:132].hex() == packed[256:260].hex() == "11221122"
    assert packed[768:770].hex() == "003c"
    assert packed[896] == 8
    rest = bytearray(packed)
    for start, size in ((0, 4), (128, 4), (256, 4), (768, 2), (896, 1)):
        rest[start : start + size] = bytes(size)
    assert not any(rest)


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_are_those_of_the_dense_layout_to_the_bit(
    make_tensor, shape: tuple[int, int, int], isa: str, path: str, symmetric: bool
) -> None:
    # A weight that was left out is zero, so every group's integer is the same, and what follows is
    # the same float arithmetic in the same order.
    native.force_isa(isa)
    tensor = sparse(make_tensor(*shape, symmetric=symmetric))
    dense, packed = PackedInt4(tensor), PackedInt4(tensor, "2:4")
    x = activations(max(TOKENS), shape[1])
    for m in TOKENS:
        assert np.array_equal(linear(packed, x[:m], path), linear(dense, x[:m], path)), m


@pytest.mark.parametrize("isa", every_isa())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dequantized_weights_are_the_tensor_s(
    make_tensor, shape: tuple[int, int, int], isa: str
) -> None:
    native.force_isa(isa)
    tensor = sparse(make_tensor(*shape))
    y = np.full(shape[:2], np.nan, dtype=np.float32)
    packed = PackedInt4(tensor, "2:4")
    assert native.library().eb_w4_dequantize(packed.handle, 0, y.ctypes.data) == native.OK
    assert np.array_equal(y, dequantize(tensor))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_token_equals_the_float64_twin(
    make_tensor, shape: tuple[int, int, int], isa: str, path: str
) -> None:
    # As in test_w4_linear: (blocks + 4) 2^-24 of sum |x^| scale * 15; the integers are exact.
    native.force_isa(isa)
    tensor = sparse(make_tensor(*shape))
    x, k = activations(1, shape[1]), shape[1]
    quantized = reference.quantize_activations(x, reference.block_inputs(k, tensor.group), path)
    size = np.abs(quantized.v) * quantized.scale.astype(np.float64)[:, :, None]
    scale = np.repeat(np.abs(tensor.scale.astype(np.float64)), tensor.group, axis=1)
    bound = (quantized.v.shape[1] + 4) * 2.0**-24 * (size.reshape(1, -1)[:, :k] @ (15 * scale).T)
    error = np.abs(
        linear(PackedInt4(tensor, "2:4"), x, path) - sparse24.linear_twin_24(tensor, x, path)
    )
    assert (error <= bound + 1e-37).all()


def test_the_sparse_twin_is_the_dense_one(make_tensor) -> None:
    tensor, x = sparse(make_tensor(40, 256, 64)), activations(3, 256)
    dense = reference.linear_twin(tensor, x, "w4a16")
    # Both sum the same exact integers in float64.
    assert np.allclose(sparse24.linear_twin_24(tensor, x), dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("zero", [0, 15])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
def test_the_largest_sums_do_not_overflow(isa: str, path: str, zero: int) -> None:
    # Kept codes 15 or 0 at the far end from the zero point, activations at the end of their range.
    native.force_isa(isa)
    codes = np.full((65, 128), zero, dtype=np.uint8)
    codes[:, ::2] = 15 - zero
    tensor = Int4Tensor(
        qweight=pack_codes(codes),
        scale=np.ones((65, 1), dtype=np.float16),
        zero=np.full((65, 1), zero, dtype=np.uint8),
        group=128,
    )
    x = np.full((1, 128), -1.0, dtype=np.float32)
    y = linear(PackedInt4(tensor, "2:4"), x, path)
    assert np.allclose(y, -64.0 * (15 - 2 * zero), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("isa", every_isa())
def test_what_is_not_finite_stays_so(make_tensor, isa: str, bad: float) -> None:
    native.force_isa(isa)
    x = activations(1, 256)
    x[0, 70] = bad
    assert np.isnan(linear(PackedInt4(sparse(make_tensor(70, 256, 64)), "2:4"), x)).all()


def test_weights_that_are_not_2_4_are_refused_by_place(make_tensor) -> None:
    tensor = sparse(make_tensor(70, 256, 64))
    assert sparse24.is_24(tensor)
    codes, zero = unpack_codes(tensor), np.repeat(tensor.zero, 64, axis=1)
    codes[66, 132:136] = (zero[66, 132:136] + 1) % 16
    wrong = Int4Tensor(
        qweight=pack_codes(codes), scale=tensor.scale, zero=tensor.zero, group=tensor.group
    )
    assert not sparse24.is_24(wrong)
    with pytest.raises(ValueError, match=r"at most two .*row 66, inputs 132\.\.135"):
        PackedInt4(wrong, "2:4")
    with pytest.raises(ValueError, match=r"got 4 in row 66, inputs 132\.\.135"):
        sparse24.keep_24(wrong)


def test_inputs_that_are_no_multiple_of_four_are_refused(make_tensor) -> None:
    tensor = make_tensor(3, 6, 6)
    assert not sparse24.is_24(tensor)
    with pytest.raises(ValueError, match="K a multiple of 4"):
        PackedInt4(tensor, "2:4")
    with pytest.raises(ValueError, match="K must be a multiple of 4, got K=6"):
        sparse24.keep_24(tensor)


def test_unknown_layouts_are_refused(make_tensor) -> None:
    with pytest.raises(ValueError, match=r"layout must be one of dense, 2:4, got '4:8'"):
        PackedInt4(make_tensor(3, 32, 32), "4:8")  # type: ignore[arg-type]


def test_scales_and_zero_points_are_checked_as_in_the_dense_layout(make_tensor) -> None:
    tensor = sparse(make_tensor(3, 64, 32))
    tensor.scale[1, 1] = np.inf
    with pytest.raises(ValueError, match="scale must be finite"):
        PackedInt4(tensor, "2:4")


def test_doors_refuse_null(make_tensor) -> None:
    library, at = native.library(), np.zeros(64, dtype=np.uint8).ctypes.data
    assert library.eb_w4_pack_sparse(at, at, at, 1, 64, 32, None, at) == native.NULL
    assert library.eb_w4_pack_sparse(None, at, at, 1, 64, 32, at, at) == native.NULL
    assert library.eb_w4_pack_sparse(at, at, at, 1, 62, 62, at, at) == native.SHAPE
    assert library.eb_w4_pack_sparse(at, at, at, 1, 64, 48, at, at) == native.GROUP
