"""Sizes of launches for many tokens: what each GPU can hold, and refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgebench_kernels.cuda import large_geometry as large
from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.geometry import Launch, Linear

GPUS = {"4090": (128, "sm_89"), "Orin": (16, "sm_87"), "H200": (132, "sm_90a")}
SHAPES = [(6144, 4096), (28672, 4096), (4096, 14336), (576, 1536), (1, 64)]
PLANS: dict[str, Callable[[Linear, int, int], Launch]] = {
    "w4a8_gemm": lambda linear, *gpu: large.w4a8_gemm(linear, large.a8_tuning(linear, *gpu)),
    "w4a16_wgmma": lambda linear, *gpu: large.w4a16_wgmma(linear, large.wgmma_tuning(linear, *gpu)),
    "w4a8_wgmma": lambda linear, *gpu: large.w4a8_wgmma(
        linear, large.a8_wgmma_tuning(linear, *gpu)
    ),
}
RUNS = [(kernel, gpu) for kernel in PLANS for gpu in GPUS if gpu == "H200" or "wgmma" not in kernel]


@pytest.mark.parametrize(("kernel", "gpu"), RUNS)
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("m", [1, 16, 33, 64, 128, 256, 2048])
def test_tunings_fit_their_gpu(kernel: str, gpu: str, group: int, m: int) -> None:
    multiprocessors, arch = GPUS[gpu]
    shared_bytes = ARCHITECTURES[arch].shared_bytes
    for n, k in SHAPES:
        plan = PLANS[kernel](Linear(m=m, n=n, k=k, group=group), multiprocessors, shared_bytes)
        macros, (columns, rows, splits) = dict(plan.macros), plan.grid
        block_rows = 16 * macros["EB_TILES"] * macros["EB_WARPS"] // macros.get("EB_TOKEN_WARPS", 1)
        assert plan.shared_bytes <= shared_bytes
        assert (columns - 1) * macros["EB_TOKENS"] < m <= columns * macros["EB_TOKENS"]
        assert (rows - 1) * block_rows < n <= rows * block_rows
        blocks = columns * rows * splits
        assert splits == 1 or (blocks <= 2 * multiprocessors and k // 128 // splits >= 4)
        is_cluster = "wgmma" in kernel
        assert plan.cluster == (splits if is_cluster else 1)
        assert plan.counters == (blocks if splits > 1 and not is_cluster else 0)
        assert plan.workspace_bytes == 4 * plan.counters * macros["EB_TOKENS"] * block_rows
        assert not is_cluster or plan.shared_bytes >= 4 * macros["EB_TOKENS"] * (block_rows + 4)


@pytest.mark.parametrize(
    ("n", "k", "m", "tiles", "splits"),
    [
        (6144, 4096, 64, 1, 2),
        (4096, 4096, 64, 1, 4),
        (28672, 4096, 64, 2, 1),
        (4096, 14336, 64, 1, 4),
        (4096, 4096, 256, 1, 2),
        (6144, 4096, 2048, 2, 1),
        (576, 1536, 64, 1, 2),
    ],
)
def test_blocks_fill_an_h200_once(n: int, k: int, m: int, tiles: int, splits: int) -> None:
    linear = Linear(m=m, n=n, k=k, group=128)
    tuning = large.wgmma_tuning(linear, 132, ARCHITECTURES["sm_90a"].shared_bytes)
    assert (tuning.tiles, tuning.splits) == (tiles, splits)


SHARINGS = {
    "16 tokens, two blocks": large.Sharing(
        tokens=16, producers=4, batch=4, batches=2, stages=8, blocks=2
    ),
    "16 warps": large.Sharing(tokens=64, tiles=(1,), warps=16, producers=4, batch=2),
    "256 tokens": large.Sharing(tokens=256, tiles=(1,), producers=4, batch=2),
}


@pytest.mark.parametrize("name", SHARINGS)
def test_a_row_of_the_table_decides(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    row, room = SHARINGS[name], ARCHITECTURES["sm_90a"].shared_bytes
    monkeypatch.setattr(large, "A16_SHARING", (row,))
    for n, k in SHAPES[:3]:
        linear = Linear(m=row.tokens, n=n, k=k, group=128)
        tuning = large.wgmma_tuning(linear, 132, room)
        plan = large.w4a16_wgmma(linear, tuning)
        assert (tuning.tokens, tuning.warps, tuning.producers) == (row.tokens, row.warps, 4)
        assert tuning.tiles in row.tiles
        assert 3 <= tuning.stages <= row.stages
        assert plan.threads == 32 * (row.warps + 4)
        assert plan.shared_bytes * row.blocks <= room
        assert plan.grid[1] * plan.grid[2] <= 132 * row.blocks or tuning.splits == 1


def test_parts_of_k_are_a_clusters_blocks() -> None:
    with pytest.raises(ValueError, match=r"splits must be one of \(1, 2, 4, 8\), got 3"):
        large.w4a16_wgmma(Linear(m=1, n=16, k=64, group=64), large.WgmmaTuning(splits=3))


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("m", [1, 16, 33, 64, 128, 256])
def test_defaults_fit_every_gpu(m: int, group: int) -> None:
    linear = Linear(m=m, n=4096, k=4096, group=group)
    assert large.w4a8_gemm(linear).shared_bytes <= ARCHITECTURES["sm_86"].shared_bytes


@pytest.mark.parametrize(
    ("plan", "multiple"), [(large.w4a8_gemm, 64), (large.w4a8_wgmma, 64), (large.w4a16_wgmma, 8)]
)
def test_rows_of_activations_are_whole(plan: Callable[[Linear], Launch], multiple: int) -> None:
    with pytest.raises(ValueError, match=rf"K must be a multiple of {multiple}, got K=100; pad"):
        plan(Linear(m=16, n=16, k=100, group=64))
