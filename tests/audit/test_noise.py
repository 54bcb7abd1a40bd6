"""Noise keeps what decides the work: the pattern of zeros, each group's codes on their grid."""

from __future__ import annotations

import numpy as np

from edgebench.audit.noise import NoisyLayer
from edgebench.kernel_engine import changed_tensors
from edgebench_kernels.formats import unpack_codes
from edgebench_kernels.quantize import quantize_rtn
from edgebench_kernels.sparse24 import is_24

GROUP = 32
NAME = "model.layers.0.mlp.up_proj"


def pruned(rows: int, inputs: int) -> np.ndarray:
    """Weights off centre, so that zero points differ, the smaller two of every four zero."""
    weight = np.random.default_rng(1).normal(0.02, 0.05, (rows, inputs)).astype(np.float16)
    quads = weight.reshape(rows, -1, 4)
    np.put_along_axis(quads, np.abs(quads).argsort(axis=2)[:, :, :2], 0, axis=2)
    return weight


def test_codes_that_were_2_4_still_are() -> None:
    tensor = quantize_rtn(pruned(16, 256), GROUP)
    assert is_24(tensor)
    assert len(np.unique(tensor.zero)) > 1
    noisy = changed_tensors({NAME: tensor}, NoisyLayer(layer=0, seed=1))[NAME]
    assert is_24(noisy)
    groups = [np.sort(unpack_codes(one).reshape(-1, GROUP), axis=1) for one in (tensor, noisy)]
    assert np.array_equal(*groups)
    assert np.mean(noisy.qweight != tensor.qweight) > 0.5


def test_fp16_rows_keep_their_fours_and_any_width() -> None:
    for inputs in (64, 6):
        weight = np.arange(2 * inputs).reshape(2, inputs).astype(np.float16)
        noisy = NoisyLayer(layer=0, seed=1)(NAME, weight)
        assert noisy.dtype == weight.dtype
        assert noisy.shape == weight.shape
        assert np.array_equal(np.sort(noisy.astype(np.float32), axis=1), weight)
        assert not np.array_equal(noisy, weight)
    fours = NoisyLayer(layer=0, seed=1)(NAME, np.arange(64, dtype=np.float16)[None]).reshape(-1, 4)
    assert (np.diff(fours.astype(np.float32), axis=1) == 1).all()


def test_another_layer_is_left_alone() -> None:
    weight = np.zeros((2, 8), np.float16)
    assert NoisyLayer(layer=1, seed=1)(NAME, weight) is weight
