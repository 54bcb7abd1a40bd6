"""Round-to-nearest: the half-step bound for every weight, ties, extremes, reproducible bits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgebench_kernels.formats import dequantize, unpack_codes
from edgebench_kernels.quantize import quantize_rtn

GROUP = 32
FP16_MAX = 65504.0


def weights(kind: str) -> np.ndarray:
    """[16, 128] float32 of one awkward kind."""
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((16, 128))
    one_hot = np.zeros((16, 128))
    one_hot[:, 5] = -3.0
    return {
        "normal": normal,
        "outliers": np.where(rng.random((16, 128)) < 0.02, 50 * normal, normal),
        "positive": 0.5 + 0.5 * rng.random((16, 128)),
        "negative": -1.0 - rng.random((16, 128)),
        "zeros": np.zeros((16, 128)),
        "one_hot": one_hot,
        "constant": np.full((16, 128), 0.37),
        "fp16_extremes": np.where(normal > 0, FP16_MAX, -FP16_MAX),
        "tiny": normal * 1e-7,
        "subnormal": normal * 1e-30,
    }[kind].astype(np.float32)


KINDS = (
    "normal outliers positive negative zeros one_hot constant fp16_extremes tiny subnormal".split()
)


def unrounded_scale(weight: np.ndarray, bits: int, symmetric: bool) -> np.ndarray:
    """The scale before fp16, in float64, [N, groups]."""
    grouped = weight.astype(np.float64).reshape(len(weight), -1, GROUP)
    low, high = np.minimum(grouped.min(2), 0), np.maximum(grouped.max(2), 0)
    levels = 2**bits - 1
    return np.maximum(-low, high) / (levels / 2) if symmetric else (high - low) / levels


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_within_half_a_step(kind: str, symmetric: bool, bits: int) -> None:
    # |w - w^| <= s/2 where no code is clipped. A scale s rounded down from s' misses up to
    # qmax * (s' - s) at the end of the range, one rounded up nothing; float32 division moves a tie
    # by less than s * 2^-20.
    weight = weights(kind)
    tensor = quantize_rtn(weight, GROUP, bits=bits, symmetric=symmetric)
    scale = tensor.scale.astype(np.float64)
    qmax = (2**bits - 1) / (2 if symmetric else 1)
    rounding = qmax * np.maximum(0, unrounded_scale(weight, bits, symmetric) - scale)
    bound = scale * (0.5 + 2.0**-20) + rounding
    error = np.abs(weight.astype(np.float64) - dequantize(tensor)).reshape(16, -1, GROUP)
    assert (error <= bound[:, :, None]).all()
    assert unpack_codes(tensor).max() < 2**bits


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_zero_stays_zero(kind: str, symmetric: bool) -> None:
    weight = weights(kind)
    weight[:, ::3] = 0.0
    assert (dequantize(quantize_rtn(weight, GROUP, symmetric=symmetric))[:, ::3] == 0).all()


def test_one_sided_group_keeps_its_spread() -> None:
    # Weights in [0.5, 1]: a range that left zero out would make all of them 0.5.
    tensor = quantize_rtn(weights("positive"), GROUP)
    assert (tensor.zero == 0).all()
    assert np.abs(dequantize(tensor) - weights("positive")).max() <= 1.0 / 30 + 1e-4


def test_ties_go_to_the_even_code() -> None:
    # Scale exactly 1, zero point 0: halves between codes.
    weight = np.array([[15.0, 0.0, 0.5, 1.5, 2.5, 13.5] + [0.0] * 26], dtype=np.float32)
    tensor = quantize_rtn(weight, GROUP)
    assert (float(tensor.scale[0, 0]), int(tensor.zero[0, 0])) == (1.0, 0)
    assert unpack_codes(tensor)[0, :6].tolist() == [15, 0, 0, 2, 2, 14]


def test_scale_ties_go_to_the_even_fp16() -> None:
    # 1 + 2^-11 lies half-way between the fp16 numbers 1 and 1 + 2^-10.
    weight = np.zeros((1, GROUP), dtype=np.float32)
    weight[0, 0] = 15 * (1 + 2.0**-11)
    assert float(quantize_rtn(weight, GROUP).scale[0, 0]) == 1.0


def test_fp16_and_fp32_input_give_the_same_tensor() -> None:
    half = weights("normal").astype(np.float16)
    first, second = quantize_rtn(half, 64), quantize_rtn(half.astype(np.float32), 64)
    assert np.array_equal(first.qweight, second.qweight)
    assert np.array_equal(first.scale.view(np.uint16), second.scale.view(np.uint16))


def test_input_is_left_alone() -> None:
    weight = weights("normal")
    before = weight.copy()
    quantize_rtn(weight, GROUP)
    assert np.array_equal(weight, before)


def test_bits_are_reproducible() -> None:
    # Golden: the quantizer is part of the recipe that a bundle's hashes stand for. A change here
    # invalidates every closed-track bundle; regenerate by printing the digest below.
    values = (np.arange(64 * 256, dtype=np.int64) * 2654435761 % 4093 - 2046).astype(np.float32)
    tensor = quantize_rtn((values / 977).reshape(64, 256), 128)
    digest = hashlib.sha256()
    for array in (tensor.qweight, tensor.scale, tensor.zero):
        digest.update(array.tobytes())
    assert digest.hexdigest() == "c4a7c19061007d7efc07d3c52219d1a36f46c25d6c9f622a2cf5257acf461784"


def test_rows_do_not_depend_on_their_neighbours() -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((5000, 128), dtype=np.float32)  # several chunks
    whole, part = quantize_rtn(weight, 128), quantize_rtn(weight[4990:], 128)
    assert np.array_equal(whole.qweight[4990:], part.qweight)


@pytest.mark.parametrize(
    ("weight", "group", "bits", "text"),
    [
        (np.zeros((2, 64), dtype=np.float64), 32, 4, "float16 or float32"),
        (np.zeros(64, dtype=np.float32), 32, 4, r"\[N, K\] with N >= 1"),
        (np.zeros((2, 96), dtype=np.float32), 64, 4, "multiple of group 64, got K=96"),
        (np.zeros((2, 64), dtype=np.float32), 16, 4, "group must be 32, 64, 128 or K=64"),
        (np.zeros((2, 33), dtype=np.float32), 33, 4, "K must be even"),
        (np.zeros((2, 64), dtype=np.float32), 32, 5, "bits must be 3 or 4, got 5"),
        (np.full((2, 64), np.nan, dtype=np.float32), 32, 4, "must be finite"),
        (np.full((2, 64), np.inf, dtype=np.float32), 32, 4, "must be finite"),
        (np.full((2, 64), 3e38, dtype=np.float32), 32, 4, "scale must fit in fp16"),
    ],
)
def test_bad_input_is_refused(weight: np.ndarray, group: int, bits: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        quantize_rtn(weight, group, bits=bits)
