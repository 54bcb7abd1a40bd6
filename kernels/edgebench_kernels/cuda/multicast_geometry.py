"""What `w4a16_multicast` needs for a shape: macros, grid, shared memory, tiles; Hopper alone.

Blocks with the same tokens and other rows are a cluster. Numbers restate the constants of the `.cu`
file; the emulation tests run with memory of exactly these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgebench_kernels.cuda.geometry import CHUNK_BYTES, CHUNK_INPUTS, Launch, Linear
from edgebench_kernels.cuda.large_geometry import ARRIVAL_BYTES, aligned
from edgebench_kernels.cuda.layout import TILE_ROWS, padded_inputs

MULTICAST_SHARERS = (2, 4)
MULTICAST_TOKENS = (64, 128)
MOST_STAGES = 6
PRODUCERS = 4  # warps


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticastTuning:
    """Free choices of `w4a16_multicast`. sharers: blocks that give each other their tokens.

    The others: see `WgmmaTuning`.
    """

    tokens: int = 128
    tiles: int = 2
    warps: int = 8
    stages: int = 4
    sharers: int = 2
    batch: int = 4
    batches: int = 2


def w4a16_multicast(linear: Linear, tuning: MulticastTuning = MulticastTuning()) -> Launch:
    """`w4a16_multicast`, for any M >= 1; ValueError unless K pads to a multiple of 128."""
    if linear.k % 8 or padded_inputs(linear.k) % CHUNK_INPUTS:
        raise ValueError(
            f"[w4a16_multicast] K must be a multiple of 8 whose tiles are pairs, got K={linear.k}; "
            "use w4a16_wgmma"
        )
    if tuning.sharers not in MULTICAST_SHARERS or tuning.tokens not in MULTICAST_TOKENS:
        raise ValueError(
            f"[w4a16_multicast] sharers must be one of {MULTICAST_SHARERS}, and tokens of "
            f"{MULTICAST_TOKENS}, got {tuning.sharers} and {tuning.tokens}; choose others"
        )
    row_tiles = tuning.tiles * tuning.warps
    rows = TILE_ROWS * row_tiles
    stage = 2 * CHUNK_INPUTS * tuning.tokens + row_tiles * CHUNK_BYTES[linear.group]
    ring = tuning.stages * (aligned(stage) + 2 * ARRIVAL_BYTES)
    return Launch(
        file="w4a16_multicast.cu",
        kernel="w4a16_multicast",
        macros=(
            ("EB_GROUP", linear.group),
            ("EB_TOKENS", tuning.tokens),
            ("EB_TILES", tuning.tiles),
            ("EB_WARPS", tuning.warps),
            ("EB_SHARERS", tuning.sharers),
            ("EB_BATCH", tuning.batch),
            ("EB_BATCHES", tuning.batches),
            ("EB_STAGES", tuning.stages),
            ("EB_EPILOGUE", linear.epilogue),
        ),
        grid=(
            -(-linear.m // tuning.tokens),
            -(-linear.n // (rows * tuning.sharers)),
            tuning.sharers,
        ),
        threads=32 * (tuning.warps + PRODUCERS),
        shared_bytes=max(ring, 4 * tuning.tokens * (rows + 4)),
        cluster=tuning.sharers,
        box_rows=tuning.tokens // tuning.sharers,
    )


def multicast_tuning(linear: Linear, shared_bytes: int, **choices: int) -> MulticastTuning:
    """A choice with as many stages as fit; reasoned, not measured."""
    tuning = replace(MulticastTuning(), **choices)
    fitting = (
        replace(tuning, stages=stages)
        for stages in range(MOST_STAGES, 2, -1)
        if w4a16_multicast(linear, replace(tuning, stages=stages)).shared_bytes <= shared_bytes
    )
    return next(fitting, replace(tuning, stages=3))
