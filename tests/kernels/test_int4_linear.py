"""Int4Linear against torch's matmul of the dequantized weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels import native  # noqa: E402
from edgebench_kernels.formats import dequantize  # noqa: E402
from edgebench_kernels.linear import (  # noqa: E402
    Int4Linear,
    cpu_layer,
    dequantized,
    dequantized_layer,
)
from edgebench_kernels.packing import PackedInt4  # noqa: E402
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


@pytest.mark.parametrize("path", ["w4a16", "w4a8"])
@pytest.mark.parametrize("is_alone", [False, True])
def test_a_layer_is_the_linear_with_its_bias_and_limits(
    make_tensor, path: str, is_alone: bool
) -> None:
    tensor = make_tensor(72, 64, 32)
    packed, bias = PackedInt4(tensor), torch.randn(72)
    x = torch.randn(3, 5, 64)
    sums = Int4Linear(packed, path)(x) + bias
    plain = cpu_layer(packed, path, bias, is_alone=is_alone)
    clamped = cpu_layer(packed, path, bias, clamp=(0.0, 1.5), is_alone=is_alone)
    assert torch.equal(plain(x), sums)
    assert torch.equal(clamped(x), sums.clamp(0.0, 1.5))
    assert torch.equal(plain(x.transpose(0, 1)), sums.transpose(0, 1))
    x[1, 2, 3] = float("nan")
    assert bool(clamped(x)[1, 2].isnan().all())
    assert bool(clamped(x)[0].isfinite().all())


def test_what_a_layer_cannot_take_is_refused(make_tensor) -> None:
    packed, bias = PackedInt4(make_tensor(72, 64, 32)), torch.zeros(72)
    with pytest.raises(ValueError, match="path must be one of w4a8, w4a16, got 'w4a8-token'"):
        cpu_layer(packed, "w4a8-token", bias)
    for wrong in (torch.zeros(71), torch.zeros(72).double(), torch.zeros(144)[::2]):
        with pytest.raises(ValueError, match=r"bias must be float32 \[N=72\], got"):
            cpu_layer(packed, "w4a16", wrong)
    layer = cpu_layer(packed, "w4a16", bias)
    for x in (torch.zeros(2, 63), torch.zeros(2, 64).half()):
        with pytest.raises(ValueError, match=r"x must be float32 \[\.\.\., 64\], got"):
            layer(x)
    with pytest.raises(ValueError, match=r"clamp 1\.\.0"):
        cpu_layer(packed, "w4a16", bias, clamp=(1.0, 0.0))(torch.zeros(2, 64))


@pytest.mark.parametrize("isa", native.supported_isas() if native.is_available() else ("scalar",))
@pytest.mark.usefixtures("restored_native")
def test_dequantized_weights_are_the_tensor_s(
    make_tensor, shape: tuple[int, int, int], isa: str
) -> None:
    native.force_isa(isa)
    tensor = make_tensor(*shape)
    packed, expected = PackedInt4(tensor), torch.from_numpy(dequantize(tensor))
    assert torch.equal(dequantized(packed, torch.float32), expected)
    # torch rounds to nearest even, as the kernel says it does
    assert torch.equal(dequantized(packed, torch.bfloat16), expected.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dequantized_layer_is_torch_s_product(make_tensor, dtype: torch.dtype) -> None:
    tensor = make_tensor(72, 64, 32)
    bias, x = torch.randn(72, dtype=dtype), torch.randn(3, 5, 64, dtype=dtype)
    expected = torch.nn.functional.linear(x, torch.from_numpy(dequantize(tensor)).to(dtype), bias)
    assert torch.equal(dequantized_layer(PackedInt4(tensor), bias)(x), expected)


def test_what_cannot_be_dequantized_is_refused(make_tensor) -> None:
    packed = PackedInt4(make_tensor(72, 64, 32))
    with pytest.raises(ValueError, match=r"dtype must be one of torch\.float32, torch\.bfloat16"):
        dequantized(packed, torch.float16)
    for wrong in (torch.zeros(71), torch.zeros(72).double()):
        with pytest.raises(ValueError, match=r"bias must be float32 or bfloat16 \[N=72\], got"):
            dequantized_layer(packed, wrong)
