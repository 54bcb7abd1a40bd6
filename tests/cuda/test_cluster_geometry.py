"""Sizes of launches of `w4a16_cluster`: what an H200 holds, and refusals."""

from __future__ import annotations

import pytest

from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.cluster_geometry import (
    ClusterTuning,
    cluster_tuning,
    tunings,
    w4a16_cluster,
)
from edgebench_kernels.cuda.geometry import Linear

H200 = (132, ARCHITECTURES["sm_90a"].shared_bytes)


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("m", [1, 8, 9, 16, 32])
def test_every_tuning_fits_and_covers_all_rows(m: int, group: int) -> None:
    for n, k in ((6144, 4096), (28672, 4096), (4096, 14336), (576, 1536), (1, 64)):
        linear = Linear(m=m, n=n, k=k, group=group)
        found = list(tunings(linear, *H200))
        assert cluster_tuning(linear, *H200) in found
        for tuning in found:
            plan = w4a16_cluster(linear, tuning)
            macros, (clusters, _, blocks) = dict(plan.macros), plan.grid
            rows = 16 * macros["EB_TILES"] * macros["EB_WARPS"]
            assert plan.shared_bytes <= H200[1]
            assert m <= macros["EB_TOKENS"] < 2 * max(m, 8)
            assert 1 <= clusters <= -(-n // rows)
            assert plan.cluster == blocks == macros["EB_BLOCKS"]
            assert clusters * blocks <= 132
            assert macros["EB_TOKENS"] % blocks == 0
            assert macros["EB_STAGES"] >= 4


def test_tokens_that_do_not_fit_have_no_tuning() -> None:
    assert cluster_tuning(Linear(m=64, n=4096, k=1 << 16, group=128), *H200) is None
    assert cluster_tuning(Linear(m=64, n=4096, k=4096, group=128), *H200) is not None


def test_passes_are_few_and_of_one_turn() -> None:
    """64 tokens of `down`: 229 KB of a block's part of K, in three passes over all of its rows."""
    linear = Linear(m=64, n=4096, k=14336, group=128)
    tuning = cluster_tuning(linear, *H200)
    assert tuning is not None
    assert (tuning.passes, tuning.tiles, tuning.warps, tuning.blocks) == (3, 2, 8, 8)
    assert w4a16_cluster(linear, tuning).grid == (16, 1, 8)
    for n, k in ((6144, 4096), (4096, 4096), (28672, 4096)):
        one = cluster_tuning(Linear(m=64, n=n, k=k, group=128), *H200)
        assert one is not None
        assert one.passes == 1


def test_the_busiest_block_of_llama_has_least_to_read() -> None:
    """qkv, o and down: whole turns for each of 16 clusters, where wider blocks leave some empty."""
    for n, k, turns in ((6144, 4096, 3), (4096, 4096, 2), (28672, 4096, 14), (4096, 14336, 2)):
        linear = Linear(m=16, n=n, k=k, group=128)
        tuning = cluster_tuning(linear, *H200)
        assert tuning is not None
        plan = w4a16_cluster(linear, tuning)
        rows = 16 * tuning.tiles * tuning.warps
        assert (plan.grid[0], plan.grid[2]) == (16, 8)
        assert turns * plan.grid[0] * 128 == -(-n // rows) * rows


@pytest.mark.parametrize(
    ("m", "k", "tuning", "said"),
    [
        (65, 64, ClusterTuning(), r"M must be 1..64, and blocks one of .* got M=65"),
        (9, 64, ClusterTuning(tokens=8), "got M=9, tokens=8"),
        (1, 64, ClusterTuning(tokens=24), "tokens=24"),
        (1, 64, ClusterTuning(blocks=3), "blocks=3"),
        (1, 20, ClusterTuning(), "K must be a multiple of 8, got K=20"),
    ],
)
def test_what_the_kernel_cannot_do_is_refused(
    m: int, k: int, tuning: ClusterTuning, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        w4a16_cluster(Linear(m=m, n=16, k=k, group=64), tuning)
