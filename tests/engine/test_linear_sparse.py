"""A pruned model whose INT4 weights are packed 2:4: the same answers, from fewer bytes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.engine import (  # noqa: E402
    build_int4,
    load_reference,
    pack_24,
    pack_int4,
)
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native]


def pruned(weight: np.ndarray) -> np.ndarray:
    """The smaller two of every four inputs become zero."""
    quads = weight.reshape(weight.shape[0], -1, 4).copy()
    np.put_along_axis(quads, np.abs(quads).argsort(axis=2)[:, :, :2], 0, axis=2)
    return quads.reshape(weight.shape)


@pytest.fixture
def tensors(checkpoint):
    weights = load_reference(checkpoint)
    return weights, {
        name: quantize_rtn(pruned(w.numpy()) if "layers" in name else w.numpy(), 32)
        for name, w in weights.linears().items()
    }


def test_answers_are_the_same_and_bytes_are_fewer(tensors) -> None:
    weights, quantized = tensors
    packed = pack_int4(weights, quantized)
    sparse = pack_24(weights, quantized, packed)
    assert sparse.keys() == packed.keys()
    assert sparse["lm_head"] is packed["lm_head"]  # not pruned
    assert sparse["layers.0.qkv"].executed_path == "w4a16-2:4"
    assert packed["layers.0.qkv"].executed_path == "w4a16"
    room = {"max_batch": 2, "max_length": 24}
    dense_engine = build_int4(weights, {}, packed=packed, **room)
    sparse_engine = build_int4(weights, {}, packed=sparse, **room)
    assert sparse_engine.weight_bytes_at(1) < dense_engine.weight_bytes_at(1)
    for ids, lengths in ([[[1, 2, 3]], [3]], [[[4, 5, 6, 7], [8, 0, 0, 0]], [4, 1]]):
        ids = torch.tensor(ids)
        before = [engine.prefill(ids, lengths) for engine in (dense_engine, sparse_engine)]
        assert torch.equal(*before)
        after = [e.decode(torch.tensor([3] * len(lengths))) for e in (dense_engine, sparse_engine)]
        assert torch.equal(*after)


def test_a_dense_model_has_none(checkpoint) -> None:
    weights = load_reference(checkpoint)
    quantized = {name: quantize_rtn(w.numpy(), 32) for name, w in weights.linears().items()}
    assert pack_24(weights, quantized, pack_int4(weights, quantized)) == {}
