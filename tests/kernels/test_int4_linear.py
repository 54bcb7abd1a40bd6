"""Int4Linear against torch's matmul of the dequantized weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.formats import dequantize  # noqa: E402
from edgebench_kernels.linear import Int4Linear  # noqa: E402
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native]

N, K = 192, 256


@pytest.fixture
def layer() -> Int4Linear:
    return Int4Linear.from_tensor(tensor())


def tensor():
    weight = np.random.default_rng(0).standard_normal((N, K), dtype=np.float32)
    return quantize_rtn(weight, 128)


def truth(x):
    return x.double() @ torch.from_numpy(dequantize(tensor())).double().T


def relative(y, expected) -> float:
    return float((y.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(K,), (1, K), (7, K), (2, 3, K), (2, 1, 20, K)])
@pytest.mark.parametrize(("path", "largest"), [("w4a16", 1e-4), ("w4a8", 2e-2)])
def test_equals_matmul_of_dequantized_weights(layer, shape, path: str, largest: float) -> None:
    torch.manual_seed(1)
    x = torch.randn(shape)
    layer.path = path
    y = layer(x)
    assert y.shape == (*shape[:-1], N)
    assert y.dtype == torch.float32
    assert relative(y, truth(x)) <= largest


def test_paths_share_the_packed_weights(layer) -> None:
    packed, size = layer.packed, layer.weight_bytes
    layer.path = "w4a8"
    assert (layer.path, layer.packed, layer.weight_bytes) == ("w4a8", packed, size)
    assert size == (N // 64) * (K // 128) * 4288


def test_integers_are_refused(layer) -> None:
    with pytest.raises(TypeError, match=r"x must be of a float type, got torch\.int64"):
        layer(torch.ones(1, K, dtype=torch.int64))


def test_non_contiguous_and_other_dtypes(layer) -> None:
    torch.manual_seed(2)
    x = torch.randn(K, 5).T
    assert not x.is_contiguous()
    assert relative(layer(x), truth(x)) <= 1e-4
    half = x.to(torch.float16)
    assert relative(layer(half), truth(half)) <= 1e-4


def test_no_tokens_give_no_outputs(layer) -> None:
    assert layer(torch.empty(0, K)).shape == (0, N)


def test_output_is_fresh_each_call(layer) -> None:
    x = torch.ones(1, K)
    first, second = layer(x), layer(2 * x)
    assert not torch.equal(first, second)


def test_wrong_width_and_path_are_refused(layer) -> None:
    with pytest.raises(ValueError, match=rf"\[w4a16\] x must be a CPU tensor \[..., K={K}\]"):
        layer(torch.zeros(3, K - 1))
    with pytest.raises(ValueError, match="got \\[\\] on cpu"):
        layer(torch.zeros(()))
    with pytest.raises(ValueError, match="path must be one of w4a16, w4a8, w4a8-token, got 'fp4'"):
        layer.path = "fp4"


def test_repr_says_what_it_is(layer) -> None:
    assert repr(layer) == "Int4Linear(256, 192, group=128, w4a16)"
