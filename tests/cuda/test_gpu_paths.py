"""Which kernel multiplies how many rows, and what a GPU's weights refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import paths  # noqa: E402
from edgebench_kernels.cuda.architectures import ARCHITECTURES  # noqa: E402
from edgebench_kernels.cuda.kernels import KERNELS  # noqa: E402
from edgebench_kernels.cuda.linear import GpuInt4, Product  # noqa: E402
from edgebench_kernels.cuda.products import PRODUCTS  # noqa: E402
from edgebench_kernels.linear import PATHS, Int4Linear  # noqa: E402

from .cases import random_tensor  # noqa: E402
from .emulated_launcher import Collector  # noqa: E402

pytestmark = pytest.mark.torch


def test_paths_are_those_of_the_cpu() -> None:
    assert tuple(paths.PATHS) == PATHS


@pytest.mark.parametrize("path", list(paths.PATHS))
def test_every_architecture_has_a_kernel_for_any_rows(path: str) -> None:
    assert list(paths.PATHS[path]) == list(ARCHITECTURES)
    for arch, row in paths.PATHS[path].items():
        most = [choice.rows for choice in row]
        assert most == sorted(set(most))
        assert most[-1] == paths.ANY
        for choice in row:
            assert choice.kernel in PRODUCTS
            for kernel in choice.kernel.replace("-token", "").split("+"):
                assert kernel == "cublas" or arch in KERNELS[kernel].architectures


def test_the_kernel_follows_from_the_rows() -> None:
    rows = (1, 16, 17, 2048, 2049)
    chosen = [paths.kernel_for("w4a16", "sm_90a", count) for count in rows]
    assert chosen == [
        *(paths.GEMV, paths.GEMV),
        *(paths.WGMMA, paths.WGMMA, paths.CUBLAS),
    ]


def test_the_record_names_them() -> None:
    assert paths.describe("w4a16", "sm_87") == (
        "w4a16/sm_87 (w4a16_gemv@1-8 w4a16_gemm@9-1024 w4_dequant+cublas@>1024)"
    )
    assert paths.describe("w4a8", "sm_89") == "w4a8/sm_89 (quantize+w4a8_gemm)"


def test_a_path_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"path must be one of w4a16.*, got .fp4."):
        paths.kernel_for("fp4", "sm_80", 1)
    with pytest.raises(ValueError, match="path must be one of"):
        Int4Linear(GpuInt4.pack(Collector(), random_tensor(8, 32, 32, 0)), "fp4")


def test_dequantized_weights_are_read_twice() -> None:
    weights = GpuInt4.pack(Collector(arch="sm_90a"), random_tensor(32, 64, 64, 0))
    assert weights.bytes_at("w4a16", 1) == weights.size_bytes == 2 * 560
    assert weights.bytes_at("w4a16", 2049) == weights.size_bytes + 2 * 32 * 64


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(2, 56).half(), torch.zeros(2, 32), "got torch.float16 [2, 56]"),
        (torch.zeros(2, 64), torch.zeros(2, 32), "got torch.float32 [2, 64]"),
        (torch.zeros(2, 64).half(), torch.zeros(2, 16), "[2, 16]"),
        (torch.zeros(2, 64).half(), torch.zeros(2, 32).bfloat16(), "torch.bfloat16 [2, 32]"),
        (torch.zeros(64, 2).half().T, torch.zeros(2, 32), "must be contiguous"),
    ],
)
def test_wrong_tensors_are_refused(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    weights = GpuInt4.pack(Collector(), random_tensor(32, 64, 64, 0))
    with pytest.raises(ValueError, match=re.escape(message)):
        weights.multiply("w4a16", Product(x=x, y=y))


def test_no_rows_launch_nothing() -> None:
    launcher = Collector()
    weights = GpuInt4.pack(launcher, random_tensor(32, 64, 64, 0))
    weights.multiply("w4a16", Product(x=torch.empty(0, 64).half(), y=torch.empty(0, 32)))
    assert {variant.kernel for variant in launcher.variants} == {"w4_repack"}
    assert Int4Linear(weights)(torch.empty(3, 0, 64)).shape == (3, 0, 32)


def test_pairs_are_the_two_halves() -> None:
    with pytest.raises(ValueError, match=re.escape("N must be 2 * pair, got N=32, pair=8")):
        GpuInt4.pack(Collector(), random_tensor(32, 64, 64, 0), pair=8)


def test_read_only_arrays_can_be_packed() -> None:
    tensor = random_tensor(16, 64, 64, 0)
    for array in (tensor.qweight, tensor.scale, tensor.zero):
        array.flags.writeable = False
    launcher = Collector()
    assert GpuInt4.pack(launcher, tensor).data.dtype == torch.uint8
    assert not np.shares_memory(tensor.qweight, np.zeros(1))
