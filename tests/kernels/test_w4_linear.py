"""Every kernel of every instruction set of this machine, against the float64 twins."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels import native, reference
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.packing import PackedInt4, linear
from edgebench_kernels.quantize import quantize_rtn

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("restored_native")]

PATHS = ("w4a16", "w4a8", "w4a8-token")
# One token, both widths of `few`, its end, register tiles cut and whole, more than one chunk.
TOKENS = (1, 2, 3, 4, 6, 7, 8, 12, 13, 16, 33, 250)


def every_isa() -> tuple[str, ...]:
    return native.supported_isas() if native.is_available() else ("scalar",)


def activations(m: int, k: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, k), dtype=np.float32)


def assert_is_twin(
    tensor: Int4Tensor, x: np.ndarray, path: str, tokens: tuple[int, ...] = ()
) -> None:
    """The kernel computes what its path defines, up to float32, for the first `tokens` of x.

    Integers are exact, so what remains per block is: the total to float32 (2^-24), two products and
    one sum, each 2^-24 of the terms' magnitudes, over `blocks` sums: (blocks + 4) * 2^-24 of
    sum |x_scale| |scale| |total|, itself at most sum_k |x^| |w| + |x^| scale * zero-point terms.
    """
    k = tensor.shape[1]
    quantized = reference.quantize_activations(x, reference.block_inputs(k, tensor.group), path)
    blocks = quantized.v.shape[1]
    size = np.abs(quantized.v) * quantized.scale.astype(np.float64)[:, :, None]
    size = size.reshape(len(x), -1)[:, :k]
    scale = np.repeat(np.abs(tensor.scale.astype(np.float64)), tensor.group, axis=1)
    bound = (blocks + 4) * 2.0**-24 * (size @ (15 * scale).T)
    bound += 1e-37  # float32's subnormals
    twin, packed = reference.linear_twin(tensor, x, path), PackedInt4(tensor)
    for m in tokens or (len(x),):
        error = np.abs(linear(packed, x[:m], path) - twin[:m])
        assert (error <= bound[:m]).all(), (m, (error / bound[:m]).max())


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
def test_kernels_equal_their_twin(
    make_tensor, shape: tuple[int, int, int], isa: str, path: str, symmetric: bool
) -> None:
    native.force_isa(isa)
    tensor = make_tensor(*shape, symmetric=symmetric)
    assert_is_twin(tensor, activations(max(TOKENS), shape[1]), path, TOKENS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
def test_instruction_sets_agree_to_the_last_bits(make_tensor, isa: str, path: str) -> None:
    tensor, x = make_tensor(130, 384, 128), activations(13, 384)
    native.force_isa("scalar")
    expected = linear(PackedInt4(tensor), x, path)
    native.force_isa(isa)
    # Integer parts are equal; float sums differ in fused or separate rounding only.
    difference = np.abs(linear(PackedInt4(tensor), x, path) - expected)
    assert difference.max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
def test_error_against_exact_activations_is_within_the_derived_bound(isa: str, path: str) -> None:
    # reference.activation_error_bound: half an activation step times sum |w|, per block.
    native.force_isa(isa)
    rng = np.random.default_rng(5)
    tensor = quantize_rtn(rng.standard_normal((96, 1024), dtype=np.float32), 128)
    x = activations(5, 1024)
    x[:, ::97] *= 1000.0  # the outliers that smoothing is about
    exact = reference.linear_exact(tensor, x)
    bound = reference.activation_error_bound(tensor, x, path) + 1e-5 * np.abs(exact).max()
    assert (np.abs(linear(PackedInt4(tensor), x, path) - exact) <= bound).all()


@pytest.mark.parametrize(("path", "largest"), [("w4a16", 1e-4), ("w4a8", 2e-2)])
@pytest.mark.parametrize("isa", every_isa())
def test_relative_error_on_ordinary_data(isa: str, path: str, largest: float) -> None:
    # A uniform rounding error of one step has std step / sqrt(12); a group's peak is about 3 std of
    # Gaussian activations, 10 times that with outliers: 30 / 32512 / sqrt(12) = 2.7e-4 of an
    # ordinary value in w4a16, and the outliers carry most of the output: under 1e-4 of it.
    native.force_isa(isa)
    rng = np.random.default_rng(6)
    tensor = quantize_rtn(rng.standard_normal((256, 2048), dtype=np.float32), 128)
    for m in (1, 5, 20):
        x = activations(m, 2048, seed=m)
        x[:, :8] *= 10
        exact = reference.linear_exact(tensor, x)
        error = np.linalg.norm(linear(PackedInt4(tensor), x, path) - exact)
        assert error <= largest * np.linalg.norm(exact)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("zero", [0, 15])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
def test_sixteen_bit_sums_never_saturate(isa: str, path: str, zero: int, sign: float) -> None:
    # All codes 15, all activations at the end of their range: 8 * 2 * 15 * 128 = 30720 < 2^15.
    native.force_isa(isa)
    tensor = Int4Tensor(
        qweight=np.full((65, 64), 0xFF, dtype=np.uint8),
        scale=np.ones((65, 1), dtype=np.float16),
        zero=np.full((65, 1), zero, dtype=np.uint8),
        group=128,
    )
    for value in (1.0, 32384.0 / 32512.0, 32640.0 / 32639.0):  # low halves 0, -128 and about 127
        x = np.full((7, 128), sign * value, dtype=np.float32)
        x[:, 0] = sign  # the peak: all others keep their distance to it
        assert_is_twin(tensor, x, path)
        assert_is_twin(tensor, x[:1], path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
@pytest.mark.parametrize("m", [1, 5, 20])
def test_extreme_activations(make_tensor, isa: str, path: str, m: int) -> None:
    native.force_isa(isa)
    tensor = make_tensor(33, 256, 64)
    rng = np.random.default_rng(9)
    base = activations(m, 256)
    one_hot = np.zeros_like(base)
    one_hot[:, 77] = 2.5
    cases = [
        np.zeros_like(base),
        one_hot,
        base * np.float32(1e-42),  # subnormal
        base * np.float32(1e30),
        np.where(rng.random(base.shape) < 0.01, 1000 * base, base).astype(np.float32),
    ]
    for x in cases:
        assert_is_twin(tensor, x, path)
    assert (linear(PackedInt4(tensor), cases[0], path) == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("isa", every_isa())
@pytest.mark.parametrize("m", [1, 4, 20])
def test_nan_and_infinity_show_in_their_token_only(
    make_tensor, isa: str, path: str, m: int, bad: float
) -> None:
    native.force_isa(isa)
    tensor, x = make_tensor(33, 256, 64), activations(m, 256)
    clean = linear(PackedInt4(tensor), x, path)
    x[m - 1, 100] = bad
    y = linear(PackedInt4(tensor), x, path)
    assert np.isnan(y[m - 1]).all()
    assert np.array_equal(y[: m - 1], clean[: m - 1])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_thread_count_does_not_change_a_bit(make_tensor, path: str, threads: int) -> None:
    tensor = make_tensor(1000, 1024, 128)  # 16 tasks, enough work to leave the calling thread
    packed = PackedInt4(tensor)
    for m in (1, 3, 70, 300):
        x = activations(m, 1024, seed=m)
        native.set_threads(1)
        expected = linear(packed, x, path)
        native.set_threads(threads)
        for _ in range(3):
            assert np.array_equal(linear(packed, x, path), expected)


@pytest.mark.parametrize("prefetch", [0, 64, 8192])
def test_prefetch_distance_changes_nothing(make_tensor, prefetch: int) -> None:
    tensor, x = make_tensor(70, 512, 128), activations(2, 512)
    expected = linear(PackedInt4(tensor), x)
    native.set_prefetch_bytes(prefetch)
    assert native.prefetch_bytes() == prefetch
    assert np.array_equal(linear(PackedInt4(tensor), x), expected)
    assert np.array_equal(linear(PackedInt4(tensor), x[:1]), expected[:1])
