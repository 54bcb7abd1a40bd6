"""The INT4 engine: fused packing, paths per regime, shared weights, missing or misfit tensors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.engine import (  # noqa: E402
    PathChoice,
    RegimeChoice,
    build_fp16,
    build_int4,
    fused_linears,
    load_reference,
    pack_int4,
    weights_from_tensors,
)
from edgebench_kernels.engine.fused_tensors import concat_rows  # noqa: E402
from edgebench_kernels.formats import dequantize  # noqa: E402
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402

pytestmark = pytest.mark.torch

GROUP = 32
IDS, LENGTHS = torch.arange(24).view(2, 12), [12, 7]


@pytest.fixture
def weights(tied):
    return load_reference(tied)


@pytest.fixture
def quantized(weights):
    return {name: quantize_rtn(w.numpy(), GROUP) for name, w in weights.linears().items()}


class DequantizedLinear:
    """Stands in for Int4Linear: the same numbers multiplied in fp32; notes each call's path."""

    def __init__(self, tensor, path: str = "w4a16") -> None:
        self.weight = torch.from_numpy(dequantize(tensor))
        self.weight_bytes = tensor.size_bytes
        self.path = path
        self.calls = []

    def forward(self, x):
        self.calls.append((x.shape[0], self.path))
        return x @ self.weight.T


@pytest.fixture
def stand_ins(weights, quantized):
    """Fused linear -> stand-in, as pack_int4 would make them."""
    return {
        fused: DequantizedLinear(concat_rows(names, [quantized[name] for name in names]))
        for fused, names in fused_linears(weights.config).items()
    }


def test_concatenated_rows_are_each_tensor_as_it_was(quantized) -> None:
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    joined = concat_rows(names, [quantized[name] for name in names])
    expected = np.concatenate([dequantize(quantized[name]) for name in names])
    np.testing.assert_array_equal(dequantize(joined), expected)


def test_logits_are_those_of_the_dequantized_model(weights, quantized, stand_ins) -> None:
    engine = build_int4(weights, quantized, packed=stand_ins, max_batch=2)
    # An fp16 engine over the dequantized weights; rounding them to fp16 is below 2^-11 each.
    tensors = {name: torch.from_numpy(dequantize(q)) for name, q in quantized.items()}
    embedding = "model.embed_tokens.weight"
    tensors[embedding] = tensors.pop("lm_head.weight")
    rounded = weights_from_tensors(weights.config, {**weights.tensors, **tensors})
    twin = build_fp16(rounded, RegimeChoice.uniform("fp32"), max_batch=2)
    twin._embedding = weights.tensors[embedding]  # embedding rows stay fp16
    a, b = engine.forward_all(IDS, LENGTHS), twin.forward_all(IDS, LENGTHS)
    assert (a - b).norm() <= 10 * 2**-11 * b.norm()


def test_the_path_follows_the_rows_and_weights_are_shared(weights, stand_ins) -> None:
    paths = PathChoice(single="w4a16", many="w4a8")
    both = build_int4(weights, {}, paths, packed=stand_ins, max_batch=2)
    exact = build_int4(weights, {}, "w4a16", packed=stand_ins, max_batch=2)
    for engine in (both, exact):
        engine.generate_greedy([[1, 2, 3]], 2, None)
    qkv, head = stand_ins["layers.0.qkv"], stand_ins["lm_head"]
    assert qkv.calls == [(3, "w4a8"), (1, "w4a16"), (3, "w4a16"), (1, "w4a16")]
    assert head.calls == [(1, "w4a16")] * 4
    assert both.describe() == "w4a16@1 w4a8@>1"
    assert exact.describe() == "w4a16"
    packed_bytes = sum(one.weight_bytes for one in stand_ins.values())
    assert both.weight_bytes == exact.weight_bytes == packed_bytes + 2 * 64


def test_faults_of_the_quantized_tensors_are_named(weights, quantized) -> None:
    name = "model.layers.1.self_attn.k_proj.weight"
    original = quantized.pop(name)
    with pytest.raises(ValueError, match=f"quantized tensor {name} is missing"):
        pack_int4(weights, quantized)
    quantized[name] = quantize_rtn(np.zeros((8, 64), np.float16), GROUP)
    with pytest.raises(ValueError, match=rf"{name} must have shape \[32, 64\], got \[8, 64\]"):
        pack_int4(weights, quantized)
    quantized[name] = quantize_rtn(dequantize(original), 64)
    with pytest.raises(ValueError, match=r"fused tensors must have one group size.*group 64"):
        pack_int4(weights, quantized)


@pytest.mark.native
@pytest.mark.parametrize(
    ("path", "bound"),
    # Per product about 1e-4 (w4a16, 16-bit activations) and 1e-2 (w4a8), over three layers.
    [("w4a16", 1e-3), ("w4a8", 1e-1), (PathChoice(single="w4a16", many="w4a8"), 1e-1)],
)
def test_the_kernels_compute_the_dequantized_model(
    weights, quantized, stand_ins, path, bound: float
) -> None:
    short = {name.removesuffix(".weight"): tensor for name, tensor in quantized.items()}
    engine = build_int4(weights, short, path, max_batch=2)
    twin = build_int4(weights, quantized, packed=stand_ins, max_batch=2)
    expected = twin.forward_all(IDS, LENGTHS)
    assert (engine.forward_all(IDS, LENGTHS) - expected).norm() <= bound * expected.norm()
    a, b = engine.prefill(IDS, LENGTHS), twin.prefill(IDS, LENGTHS)
    assert (a - b).norm() <= bound * b.norm()
    a, b = engine.decode(torch.tensor([5, 6])), twin.decode(torch.tensor([5, 6]))
    assert (a - b).norm() <= bound * b.norm()
