"""INT4 weights on a GPU and their products, on emulated kernels against float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import layout  # noqa: E402
from edgebench_kernels.cuda.linear import GpuInt4, Product  # noqa: E402
from edgebench_kernels.formats import Int4Tensor, dequantize  # noqa: E402
from edgebench_kernels.linear import Int4Linear  # noqa: E402

from .cases import random_tensor  # noqa: E402
from .emulated_launcher import Collector, EmulatedLauncher  # noqa: E402
from .emulation import Emulation  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native, pytest.mark.slow]

ARCH = "sm_90a"
LARGE = 321  # rows for which the table names cuBLAS
PLAIN = random_tensor(40, 64, 32, 0)
PAIRS = random_tensor(32, 64, 64, 1)
ODD = random_tensor(5, 20, 20, 2)  # K is no multiple of 8
ROWS = (1, 9, LARGE)

# fp16 activations are exact here; sums are fp32, and outputs of fp16 are rounded by 2^-11, as is
# every weight that is dequantized, and each of the steps that cuBLAS's product does not fuse.
LARGEST = 4e-3


def inputs(rows: int, k: int) -> torch.Tensor:
    return torch.randn(rows, k, generator=torch.Generator().manual_seed(rows)).half()


def truth(tensor: Int4Tensor, x: torch.Tensor) -> torch.Tensor:
    return x.double() @ torch.from_numpy(dequantize(tensor)).double().T


def products(launcher: Collector) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """What was computed, the result and the truth, for each kernel that the table names."""
    weights, pairs = GpuInt4.pack(launcher, PLAIN), GpuInt4.pack(launcher, PAIRS, pair=16)
    bias = torch.randn(40, generator=torch.Generator().manual_seed(0)).half()
    for rows in ROWS:
        x = inputs(rows, 64)
        residual = inputs(rows, 40)
        for dtype in (torch.float16, torch.float32):
            y = torch.full((rows, 40), torch.nan, dtype=dtype)
            weights.multiply("w4a16", Product(x=x, y=y))
            yield f"{rows} rows to {dtype}", y, truth(PLAIN, x)
        y = residual.clone()
        weights.multiply("w4a16", Product(x=x, y=y, bias=bias, residual=y, overlap=True))
        yield f"{rows} rows, in place", y, truth(PLAIN, x) + bias + residual
        y = torch.full((rows, 16), torch.nan, dtype=torch.float16)
        pairs.multiply("w4a16", Product(x=x, y=y))
        gate, up = truth(PAIRS, x).chunk(2, -1)
        yield f"{rows} rows, SwiGLU", y, gate * gate.sigmoid() * up
    linear = Int4Linear(GpuInt4.pack(launcher, ODD))
    for rows in ROWS:
        x = inputs(rows, 20).float().view(1, rows, 20)
        yield f"Int4Linear of {rows} rows", linear(x), truth(ODD, x)


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> EmulatedLauncher:
    collector = Collector(arch=ARCH)
    for _ in products(collector):
        pass
    program = Emulation(tmp_path_factory.mktemp("linear"), list(collector.variants))
    return EmulatedLauncher(arch=ARCH, program=program)


def test_every_kernel_of_the_table_multiplies_right(launcher: EmulatedLauncher) -> None:
    for what, y, expected in products(launcher):
        assert y.shape == expected.shape, what
        error = (y.double() - expected).norm() / expected.norm()
        assert float(error) <= LARGEST, f"{what}: {float(error)}"
    launched = {variant.kernel for variant in launcher.variants}
    assert launched == {"w4_repack", "w4a16_gemv", "w4a16_gemm", "w4_dequant", "swiglu"}


@pytest.mark.parametrize(("tensor", "pair"), [(PLAIN, 0), (PAIRS, 16), (ODD, 0)])
def test_weights_are_packed_as_in_numpy(
    launcher: EmulatedLauncher, tensor: Int4Tensor, pair: int
) -> None:
    packed = GpuInt4.pack(launcher, tensor, pair=pair)
    assert np.array_equal(packed.data.numpy(), layout.pack(tensor, pair=pair).data)
    assert packed.size_bytes == layout.pack(tensor).data.nbytes
    assert packed.outputs == (16 if pair else tensor.shape[0])
