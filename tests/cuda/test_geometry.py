"""Sizes of launches: what every GPU can hold, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgebench_kernels.cuda import geometry
from edgebench_kernels.cuda.geometry import Linear

KB = 1024
GPUS = {"4090": (128, 99 * KB), "Orin": (16, 163 * KB), "H200": (132, 227 * KB)}
SHAPES = [(6144, 4096), (28672, 4096), (4096, 14336), (576, 1536), (1, 64)]


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("m", [1, 2, 3, 8, 9, 33, 64, 200])
def test_defaults_fit_every_gpu(m: int, group: int) -> None:
    linear = Linear(m=m, n=4096, k=4096, group=group)
    plans = [geometry.gemm(linear)] + ([geometry.gemv(linear)] if m <= 16 else [])
    assert all(plan.shared_bytes <= 99 * KB for plan in plans)


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("m", [1, 4, 8, 16, 64, 128])
def test_tunings_fit_their_gpu(gpu: str, n: int, k: int, m: int) -> None:
    linear = Linear(m=m, n=n, k=k, group=64)
    tuning = geometry.gemm_tuning(linear, *GPUS[gpu])
    plan = geometry.gemm(linear, tuning)
    assert plan.shared_bytes <= GPUS[gpu][1]
    blocks = plan.grid[0] * plan.grid[1] * plan.grid[2]
    assert tuning.splits == 1 or blocks <= 2 * GPUS[gpu][0]
    assert tuning.splits == 1 or k // 128 // tuning.splits >= 4
    assert plan.counters == (blocks if tuning.splits > 1 else 0)
    assert plan.workspace_bytes >= 4 * m * n * tuning.splits or tuning.splits == 1
    if m > 16:
        return
    for is_dependent in (False, True):
        dependent = replace(linear, is_dependent=is_dependent)
        tuning = geometry.gemv_tuning(dependent, *GPUS[gpu])
        plan = geometry.gemv(dependent, tuning)
        assert plan.shared_bytes <= GPUS[gpu][1]
        assert plan.grid[0] <= GPUS[gpu][0]
        assert tuning.warps == 4 or tuning.warps // tuning.row_warps <= -(-k // 128)


def test_the_grid_covers_every_row_and_token() -> None:
    linear = Linear(m=70, n=4097, k=4096, group=128)
    plan = geometry.gemm(linear, geometry.GemmTuning(tokens=64, tiles=2, warps=4))
    assert plan.grid == (33, 2, 1)
    assert geometry.gemv(Linear(m=1, n=17, k=64, group=64)).grid == (2, 1, 1)
    assert geometry.dequant(17, 1000, 64).grid == (2, 2, 1)
    assert geometry.repack(17, 1152, 128).grid == (2, 2, 1)


def test_a_block_for_each_multiprocessor_has_an_equal_share() -> None:
    """Llama-3-8B on an H200: no multiprocessor has over 4 % more rows than the mean."""
    for n, tiles in ((6144, 3), (4096, 2), (28672, 7), (128256, 7)):
        linear = Linear(m=1, n=n, k=4096, group=128, is_dependent=True)
        tuning = geometry.gemv_tuning(linear, *GPUS["H200"])
        assert tuning.tiles == tiles
        rows = -(-n // (16 * tiles))
        assert -(-rows // 132) * 16 * tiles <= 1.05 * n / 132 or rows <= 132


@pytest.mark.parametrize("m", [0, 17])
def test_gemv_is_for_one_to_sixteen_tokens(m: int) -> None:
    with pytest.raises(ValueError, match=f"M must be 1..16, got M={m}; use w4a16_gemm"):
        geometry.gemv(Linear(m=m, n=16, k=64, group=64))
