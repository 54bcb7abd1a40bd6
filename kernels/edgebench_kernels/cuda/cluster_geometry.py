"""What `w4a16_cluster` needs for a shape: macros, grid, shared memory; Hopper alone.

A cluster takes rows, each of its blocks a part of K, whose inputs of all tokens stay in shared
memory. Numbers restate the constants of the `.cu` file; the emulation tests run with memory of
exactly these sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgebench_kernels.cuda.geometry import CHUNK_BYTES, CHUNK_INPUTS, X_ROW_BYTES, Launch, Linear
from edgebench_kernels.cuda.large_geometry import at_once
from edgebench_kernels.cuda.layout import TILE_ROWS

CLUSTER_TOKENS = (8, 16, 32, 64)
CLUSTER_BLOCKS = (1, 2, 4, 8)
MOST_STAGES = 8
MOST_PASSES = 4
SHARED_RATE = 7.0  # of memory's on an H200: 128 bytes a cycle of each multiprocessor
PADDING = X_ROW_BYTES - 2 * CHUNK_INPUTS  # of a token's row in shared memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTuning:
    """Free choices of `w4a16_cluster`; tokens None: the smallest that hold M.

    blocks: of a cluster, one of CLUSTER_BLOCKS.   passes: over a block's part of K, whose tokens
    each has in turn.   places: for sums.   clusters None: one for all rows that it takes at a time.
    """

    tokens: int | None = None
    tiles: int = 1
    warps: int = 8
    stages: int = 4
    blocks: int = 8
    passes: int = 1
    places: int = 2
    clusters: int | None = None


def w4a16_cluster(linear: Linear, tuning: ClusterTuning = ClusterTuning()) -> Launch:
    """`w4a16_cluster`, for 1 <= M <= 64 and K a multiple of 8; ValueError for others."""
    tokens = tuning.tokens or next((s for s in CLUSTER_TOKENS if s >= linear.m), linear.m)
    if not (linear.m <= tokens and tokens in CLUSTER_TOKENS and tuning.blocks in CLUSTER_BLOCKS):
        raise ValueError(
            f"[w4a16_cluster] M must be 1..{CLUSTER_TOKENS[-1]}, and blocks one of "
            f"{CLUSTER_BLOCKS}, got M={linear.m}, tokens={tuning.tokens}, blocks={tuning.blocks}"
        )
    if linear.k % 8:
        raise ValueError(
            f"[w4a16_cluster] K must be a multiple of 8, got K={linear.k}; pad the rows of x"
        )
    rows = TILE_ROWS * tuning.tiles * tuning.warps
    turns, chunks = -(-linear.n // rows), _pass_chunks(linear, tuning)
    clusters = min(tuning.clusters or turns, turns)
    totals = 4 * chunks * (CHUNK_INPUTS // linear.group) * tokens
    rings = tuning.warps * tuning.stages * tuning.tiles * CHUNK_BYTES[linear.group]
    sums = 4 * tuning.places * tokens * (rows + 4)
    return Launch(
        file="w4a16_cluster.cu",
        kernel="w4a16_cluster",
        macros=(
            ("EB_GROUP", linear.group),
            ("EB_TOKENS", tokens),
            ("EB_TILES", tuning.tiles),
            ("EB_WARPS", tuning.warps),
            ("EB_STAGES", tuning.stages),
            ("EB_BLOCKS", tuning.blocks),
            ("EB_PASSES", tuning.passes),
            ("EB_PLACES", tuning.places),
            ("EB_EPILOGUE", linear.epilogue),
        ),
        grid=(clusters, 1, tuning.blocks),
        threads=32 * tuning.warps,
        shared_bytes=_token_bytes(chunks, tokens) + totals + rings + sums,
        cluster=tuning.blocks,
    )


def cluster_tuning(linear: Linear, multiprocessors: int, shared_bytes: int) -> ClusterTuning | None:
    """A choice for a GPU, None where the tokens do not fit: least work for the busiest block.

    Of blocks of eight warps or more, where there are. Reasoned, not measured.
    """
    fitting = [
        (
            tuning.warps < 8,
            _busiest_bytes(linear, tuning),
            tuning.passes,
            -tuning.stages,
            place,
            tuning,
        )
        for place, tuning in enumerate(tunings(linear, multiprocessors, shared_bytes))
    ]
    return min(fitting, default=(None,))[-1]


def tunings(linear: Linear, multiprocessors: int, shared_bytes: int) -> Iterator[ClusterTuning]:
    """What fits, each with the fewest passes and as many stages as do."""
    for blocks in CLUSTER_BLOCKS[:0:-1]:
        for tiles, warps in ((1, 8), (2, 8), (1, 16), (1, 4), (2, 4)):
            clusters = max(1, at_once(blocks, multiprocessors) // blocks)
            one = ClusterTuning(tiles=tiles, warps=warps, blocks=blocks, clusters=clusters)
            places = (2, 1) if _turns(linear, one) > 1 else (1,)
            fitting = (
                tuning
                for passes in range(1, MOST_PASSES + 1)
                for count in places
                for stages in range(MOST_STAGES, 3, -1)
                if w4a16_cluster(
                    linear, tuning := replace(one, stages=stages, passes=passes, places=count)
                ).shared_bytes
                <= shared_bytes
            )
            yield from itertools.islice(fitting, 1)


def _busiest_bytes(linear: Linear, tuning: ClusterTuning) -> float:
    """What the busiest block reads of memory, or of shared memory at its rate, if that is more."""
    plan = w4a16_cluster(linear, tuning)
    tokens = dict(plan.macros)["EB_TOKENS"]
    chunks = tuning.passes * _pass_chunks(linear, tuning)
    row_tiles = _turns(linear, tuning) * tuning.tiles * tuning.warps
    weights = row_tiles * chunks * CHUNK_BYTES[linear.group]
    again = 2 * CHUNK_INPUTS * chunks * tokens * row_tiles / tuning.tiles
    times = 1 if tuning.passes == 1 else _turns(linear, tuning)
    return max(weights + times * _token_bytes(chunks, tokens), again / SHARED_RATE)


def _turns(linear: Linear, tuning: ClusterTuning) -> int:
    """Of the cluster that has most."""
    rows = TILE_ROWS * tuning.tiles * tuning.warps
    return math.ceil(math.ceil(linear.n / rows) / (tuning.clusters or 1))


def _pass_chunks(linear: Linear, tuning: ClusterTuning) -> int:
    """Of K, of a pass of the block that has most."""
    part = math.ceil(math.ceil(linear.k / CHUNK_INPUTS) / tuning.blocks)
    return math.ceil(part / tuning.passes)


def _token_bytes(chunks: int, tokens: int) -> int:
    return tokens * (2 * CHUNK_INPUTS * chunks + PADDING)
