"""Weights hashed before the clock runs and after: one changed byte shows."""

from __future__ import annotations

import numpy as np

from edgebench.timed_weights import WeightsBefore, packed_sha256
from edgebench.transform.quantized import QuantizedModel, model_sha256
from edgebench_kernels.quantize import quantize_rtn


def quantized() -> QuantizedModel:
    weight = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float16)
    return QuantizedModel(tensors={"up": quantize_rtn(weight, 32)}, steps=())


def test_what_does_not_change_hashes_alike() -> None:
    model, packed = quantized(), {"up": np.arange(128, dtype=np.uint8)}
    timed = WeightsBefore.of(packed, model).after()
    assert timed.model_sha256 == model_sha256(model.tensors)
    assert timed.before_sha256 == timed.after_sha256 == packed_sha256(packed)
    assert timed.packed_bytes == 128


def test_a_byte_that_changes_while_it_is_timed() -> None:
    packed = {"up": np.arange(128, dtype=np.uint8)}
    before = WeightsBefore.of(packed, quantized())
    packed["up"][77] ^= 1
    timed = before.after()
    assert timed.before_sha256 != timed.after_sha256


def test_names_and_borders_count() -> None:
    whole = np.arange(8, dtype=np.uint8)
    hashes = {
        packed_sha256({"a": whole}),
        packed_sha256({"b": whole}),
        packed_sha256({"a": whole[:4], "b": whole[4:]}),
        packed_sha256({"a": whole[:5], "b": whole[5:]}),
    }
    assert len(hashes) == 4
