"""The canonical INT8 weight against float64 arithmetic, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels.int8_format import (
    Int8Tensor,
    dequantize_int8,
    int8_sha256,
    quantize_int8,
)

DRAW = np.random.default_rng(5)


@pytest.mark.parametrize("spread", [1e-6, 0.03, 40.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (48, 49)])
def test_every_code_is_the_nearest(shape: tuple[int, int], spread: float) -> None:
    weight = DRAW.normal(0, spread, shape).astype(np.float16)
    tensor = quantize_int8(weight)
    scale = tensor.scale.astype(np.float64)
    # A scale in fp16 may be too small for the largest weight by 2^-11 of 127 steps, above fp16's
    # subnormals; below them it is a multiple of 2^-24.
    edge = 127 * np.maximum(scale / 2**11, 2.0**-25)
    error = np.abs(dequantize_int8(tensor).astype(np.float64) - weight.astype(np.float64))
    assert (error <= scale / 2 + edge).all()
    inside = np.abs(weight.astype(np.float64)) <= 127 * scale
    assert (error[inside] <= np.broadcast_to(scale / 2, shape)[inside] * (1 + 1e-6)).all()


def test_ties_go_to_even_and_zero_stays() -> None:
    tensor = quantize_int8(np.array([[127, 0.5, 1.5, -2.5, 0]], np.float32))
    assert tensor.scale.tolist() == [[1.0]]
    assert tensor.codes.tolist() == [[127, 0, 2, -2, 0]]


def test_a_row_of_zeros_has_a_scale() -> None:
    tensor = quantize_int8(np.zeros((2, 9), np.float16))
    assert (tensor.scale > 0).all()
    assert not dequantize_int8(tensor).any()


def test_its_bytes_and_its_hash_are_its_own() -> None:
    tensor = quantize_int8(DRAW.normal(size=(8, 9)).astype(np.float16))
    assert (tensor.shape, tensor.size_bytes) == ((8, 9), 8 * 9 + 2 * 8)
    codes = tensor.codes.copy()
    codes[3, 3] += 1 if codes[3, 3] < 127 else -1
    assert int8_sha256(tensor) != int8_sha256(Int8Tensor(codes=codes, scale=tensor.scale))
    wide = Int8Tensor(codes=tensor.codes.reshape(4, 18), scale=tensor.scale[:4])
    assert int8_sha256(tensor) != int8_sha256(wide)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (np.ones(3, np.float32), "must be \\[N, K\\], got \\[3\\]"),
        (np.ones((0, 3), np.float32), "got \\[0, 3\\]"),
        (np.array([[np.nan]], np.float32), "finite"),
        (np.array([[1e9]], np.float32), "the scale must fit in fp16"),
    ],
)
def test_what_cannot_be_rounded_is_refused(weight: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quantize_int8(weight)


@pytest.mark.parametrize(
    ("codes", "scale", "said"),
    [
        (np.zeros((2, 3), np.uint8), np.ones((2, 1), np.float16), "codes must be int8"),
        (np.zeros((2, 3), np.int8), np.ones((2, 1), np.float32), "scale must be float16"),
        (np.zeros((2, 3), np.int8), np.ones((3, 1), np.float16), r"\[N, 1\] = \[2, 1\]"),
        (np.zeros((2, 0), np.int8), np.ones((2, 1), np.float16), "some elements"),
        ([[1]], np.ones((1, 1), np.float16), "got list"),
    ],
)
def test_what_is_no_tensor_is_refused(codes: object, scale: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Int8Tensor(codes=codes, scale=scale)  # type: ignore[arg-type]
