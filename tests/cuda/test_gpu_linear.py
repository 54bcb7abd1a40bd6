"""INT4 weights on a GPU and their products, on emulated kernels against float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import layout, paths  # noqa: E402
from edgebench_kernels.cuda.linear import GpuInt4, Product  # noqa: E402
from edgebench_kernels.formats import Int4Tensor, dequantize  # noqa: E402
from edgebench_kernels.linear import Int4Linear  # noqa: E402

from .cases import random_tensor  # noqa: E402
from .emulated_launcher import Collector, EmulatedLauncher  # noqa: E402
from .emulation import Emulation  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native, pytest.mark.slow]

PLAIN = random_tensor(40, 64, 32, 0)
PAIRS = random_tensor(32, 64, 64, 1)
ODD = random_tensor(5, 20, 20, 2)  # K is no multiple of 8


@dataclass(frozen=True)
class Table:
    """Rows that make a path's table of an architecture name each of its kernels.

    largest: relative error. fp16 activations are exact here; outputs of fp16 are rounded by 2^-11,
    as are weights that are dequantized and the steps that cuBLAS's product does not fuse. int8
    activations are off by up to 1 / 254 of their group's (or token's) peak, SwiGLU by more.
    """

    arch: str
    path: str
    rows: tuple[int, ...]
    kernels: set[str]
    largest: float = 2e-3


TABLES = [
    Table("sm_90a", "w4a16", (1, 17), {"w4a16_gemv", "w4a16_wgmma"}),
    Table("sm_86", "w4a16", (9, 513), {"w4a16_gemm", "w4_dequant", "swiglu"}),
    Table("sm_90a", "w4a8", (1, 65), {"quantize", "w4a8_gemm", "w4a8_wgmma"}, 3e-2),
    Table("sm_90a", "w4a8-token", (17, 64), {"quantize", "w4a8_gemm", "w4a8_wgmma"}, 3e-2),
]


def inputs(rows: int, k: int) -> torch.Tensor:
    return torch.randn(rows, k, generator=torch.Generator().manual_seed(rows)).half()


def truth(tensor: Int4Tensor, x: torch.Tensor) -> torch.Tensor:
    return x.double() @ torch.from_numpy(dequantize(tensor)).double().T


def products(launcher: Collector, table: Table) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """What was computed, the result and the truth."""
    weights, pairs = GpuInt4.pack(launcher, PLAIN), GpuInt4.pack(launcher, PAIRS, pair=16)
    linear = Int4Linear(GpuInt4.pack(launcher, ODD), table.path)
    bias = torch.randn(40, generator=torch.Generator().manual_seed(0)).half()
    for rows in table.rows:
        x, residual = inputs(rows, 64), inputs(rows, 40)
        y = torch.full((rows, 40), torch.nan)
        weights.multiply(table.path, Product(x=x, y=y))
        yield f"{rows} rows to fp32", y, truth(PLAIN, x)
        y = residual.clone()
        weights.multiply(table.path, Product(x=x, y=y, bias=bias, residual=y, overlap=True))
        yield f"{rows} rows, in place", y, truth(PLAIN, x) + bias + residual
        y = torch.full((rows, 40), torch.nan, dtype=torch.float16)
        weights.multiply(table.path, Product(x=x, y=y, bias=bias, residual=residual))
        yield f"{rows} rows, residual beside", y, truth(PLAIN, x) + bias + residual
        y = torch.full((rows, 16), torch.nan, dtype=torch.float16)
        pairs.multiply(table.path, Product(x=x, y=y))
        gate, up = truth(PAIRS, x).chunk(2, -1)
        yield f"{rows} rows, SwiGLU", y, gate * gate.sigmoid() * up
        x = inputs(rows, 20).float().view(1, rows, 20)
        yield f"Int4Linear of {rows} rows", linear(x), truth(ODD, x)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.path} {table.arch}")
def test_every_kernel_of_the_table_multiplies_right(table: Table, tmp_path: Path) -> None:
    named = {choice.kernel for choice in paths.choices(table.path, table.arch)}
    chosen = {paths.kernel_for(table.path, table.arch, rows) for rows in table.rows}
    assert chosen <= named
    collector = Collector(arch=table.arch)
    for _ in products(collector, table):
        pass
    program = Emulation(tmp_path, list(collector.variants))
    launcher = EmulatedLauncher(arch=table.arch, program=program)
    for what, y, expected in products(launcher, table):
        assert y.shape == expected.shape, what
        error = float((y.double() - expected).norm() / expected.norm())
        assert error <= table.largest, f"{what}: {error}"
    launched = {variant.kernel for variant in launcher.variants}
    assert launched == {"w4_repack", *table.kernels}


def test_the_tables_together_name_every_kernel() -> None:
    chosen = {paths.kernel_for(t.path, t.arch, rows) for t in TABLES for rows in t.rows}
    assert chosen == {
        c.kernel for rows in paths.PATHS.values() for row in rows.values() for c in row
    }


@pytest.mark.parametrize(("tensor", "pair"), [(PLAIN, 0), (PAIRS, 16), (ODD, 0)])
def test_weights_are_packed_as_in_numpy(tensor: Int4Tensor, pair: int, tmp_path: Path) -> None:
    collector = Collector()
    GpuInt4.pack(collector, tensor, pair=pair)
    launcher = EmulatedLauncher(program=Emulation(tmp_path, list(collector.variants)))
    packed = GpuInt4.pack(launcher, tensor, pair=pair)
    assert np.array_equal(packed.data.numpy(), layout.pack(tensor, pair=pair).data)
    assert packed.size_bytes == layout.pack(tensor).data.nbytes
    assert packed.outputs == (16 if pair else tensor.shape[0])
