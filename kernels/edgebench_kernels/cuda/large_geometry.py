"""What each kernel for many tokens needs for a shape: macros, grid, shared memory, workspace.

`w4a8_gemm` (int8 activations, every GPU), `w4a16_wgmma` and `w4a8_wgmma` (Hopper). Their grids are
tokens x rows x parts of K, so that neighbours share weights; on Hopper the parts are a cluster.
Numbers restate the constants of the `.cu` files; the emulation tests run with memory of exactly
these sizes.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgebench_kernels.cuda.geometry import CHUNK_BYTES, CHUNK_INPUTS, Launch, Linear
from edgebench_kernels.cuda.layout import TILE_ROWS

A8_TOKENS = (16, 32, 64, 128)  # of a block of `w4a8_gemm`
WGMMA_TOKENS = (64, 128, 256)  # of a block of `w4a16_wgmma`; 16 and 32 where a tuning says so
A8_WGMMA_TOKENS = (64, 128)  # of a block of `w4a8_wgmma`
WGMMA_SPLITS = (1, 2, 4, 8)  # blocks of a cluster; more are not portable
WGMMA_ALIGNMENT = 1024  # of a stage
ARRIVAL_BYTES = 8  # of a stage of `w4a8_wgmma`; two of one of `w4a16_wgmma` with producers
MAX_STAGES = 4
MAX_WGMMA_STAGES = 6
SLAB_TOKENS = 16  # whose sums are in shared memory at a time, of each warp along tokens
PART_CHUNKS = 4  # of K, at least
MOST_ROW_INPUTS = 2**31 // (127 * 15)  # whose products' sum is below 2^31


class A8Scales(enum.Enum):
    """What has a scale of its own in `w4a8`, which says how far integers are added.

    GROUP: a token's group, and a row's.   TOKEN: a token, and a row's group.   ROW: a token and a
    row, for weights whose group spans K.
    """

    GROUP = (0, 0)
    TOKEN = (1, 0)
    ROW = (1, 1)

    @property
    def macros(self) -> tuple[tuple[str, int], ...]:
        """As the kernels are told."""
        is_token, is_row = self.value
        return ("EB_TOKEN_SCALE", is_token), ("EB_ROW_SCALE", is_row)


@dataclass(frozen=True, slots=True, kw_only=True)
class A8Tuning:
    """Free choices of `w4a8_gemm`; tokens None: the smallest block that holds M.

    token_warps: how many warps share a block's tokens among them, of `warps` in all.
    """

    tokens: int | None = None
    token_warps: int = 1
    tiles: int = 2
    warps: int = 4
    stages: int = 3
    splits: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WgmmaTuning:
    """Free choices of the kernels of warp groups; tokens None: the smallest block that holds M.

    splits: one of WGMMA_SPLITS.
    Of `w4a16_wgmma` alone: producers, warps beside `warps` that copy, 0: all copy and multiply;
    batch, products that are issued together; batches, that are under way at most, at least 2;
    batch batches divides 8 tiles.
    """

    tokens: int | None = None
    tiles: int = 1
    warps: int = 8
    stages: int = 4
    splits: int = 1
    producers: int = 0
    batch: int = 1
    batches: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How warps of warp groups' kernels share the work where a block has so many tokens.

    tiles: to choose from, the first of equals.   warps, producers, batch, batches: `WgmmaTuning`.
    stages: at most.   blocks: of a multiprocessor.
    """

    tokens: int
    tiles: tuple[int, ...] = (2, 1)
    warps: int = 8
    producers: int = 0
    batch: int = 1
    batches: int = 4
    stages: int = MAX_WGMMA_STAGES
    blocks: int = 1


A16_SHARING = (Sharing(tokens=64), Sharing(tokens=128, batch=4, batches=2))  # raced on an H200
A8_SHARING = (Sharing(tokens=64), Sharing(tokens=128))
"""By tokens; the last one holds for more of them, too."""


def w4a8_gemm(
    linear: Linear, tuning: A8Tuning = A8Tuning(), scales: A8Scales = A8Scales.GROUP
) -> Launch:
    """`w4a8_gemm`, for any M >= 1 and K a multiple of 64; ValueError for another K."""
    _check_a8_inputs("w4a8_gemm", linear, scales)
    tokens = tuning.tokens or _smallest(A8_TOKENS, linear.m)
    row_tiles = tuning.tiles * tuning.warps // tuning.token_warps
    stage = CHUNK_INPUTS * tokens + row_tiles * CHUNK_BYTES[linear.group]
    stage += _scale_bytes(linear, tokens, scales)
    one = _launch(
        "w4a8_gemm",
        (
            ("EB_GROUP", linear.group),
            *scales.macros,
            ("EB_TOKENS", tokens),
            ("EB_TOKEN_WARPS", tuning.token_warps),
            ("EB_TILES", tuning.tiles),
            ("EB_WARPS", tuning.warps),
            ("EB_STAGES", tuning.stages),
            ("EB_EPILOGUE", linear.epilogue),
        ),
        linear,
        _Block(tokens=tokens, rows=TILE_ROWS * row_tiles, splits=tuning.splits),
        warps=tuning.warps,
        shared_bytes=max(
            tuning.stages * stage, _slab_bytes(TILE_ROWS * row_tiles, tuning.token_warps)
        ),
    )
    blocks = one.grid[0] * one.grid[1] * one.grid[2] if tuning.splits > 1 else 0
    sums_bytes = 4 * tokens * TILE_ROWS * row_tiles
    return replace(one, workspace_bytes=blocks * sums_bytes, counters=blocks)


def w4a16_wgmma(linear: Linear, tuning: WgmmaTuning = WgmmaTuning()) -> Launch:
    """`w4a16_wgmma`, for any M >= 1 and K a multiple of 8; ValueError for another K."""
    _check_inputs("w4a16_wgmma", linear, 8)
    tokens = tuning.tokens or _smallest(WGMMA_TOKENS, linear.m)
    row_tiles = tuning.tiles * tuning.warps
    stage = 2 * CHUNK_INPUTS * tokens + row_tiles * CHUNK_BYTES[linear.group]
    arrivals = 2 * ARRIVAL_BYTES if tuning.producers else 0
    return _cluster_launch(
        "w4a16_wgmma",
        (
            ("EB_GROUP", linear.group),
            ("EB_TOKENS", tokens),
            ("EB_TILES", tuning.tiles),
            ("EB_WARPS", tuning.warps),
            ("EB_PRODUCERS", tuning.producers),
            ("EB_BATCH", tuning.batch),
            ("EB_BATCHES", tuning.batches),
            ("EB_STAGES", tuning.stages),
            ("EB_EPILOGUE", linear.epilogue),
        ),
        linear,
        _Block(tokens=tokens, rows=TILE_ROWS * row_tiles, splits=tuning.splits),
        warps=tuning.warps + tuning.producers,
        ring_bytes=tuning.stages * (aligned(stage) + arrivals),
    )


def w4a8_wgmma(
    linear: Linear, tuning: WgmmaTuning = WgmmaTuning(), scales: A8Scales = A8Scales.GROUP
) -> Launch:
    """`w4a8_wgmma`, for any M >= 1 and K a multiple of 64; ValueError for another K."""
    _check_a8_inputs("w4a8_wgmma", linear, scales)
    tokens = tuning.tokens or _smallest(A8_WGMMA_TOKENS, linear.m)
    row_tiles = tuning.tiles * tuning.warps
    stage = CHUNK_INPUTS * tokens + row_tiles * CHUNK_BYTES[linear.group]
    stage += _scale_bytes(linear, tokens, scales)
    return _cluster_launch(
        "w4a8_wgmma",
        (
            ("EB_GROUP", linear.group),
            *scales.macros,
            ("EB_TOKENS", tokens),
            ("EB_TILES", tuning.tiles),
            ("EB_WARPS", tuning.warps),
            ("EB_STAGES", tuning.stages),
            ("EB_EPILOGUE", linear.epilogue),
        ),
        linear,
        _Block(tokens=tokens, rows=TILE_ROWS * row_tiles, splits=tuning.splits),
        warps=tuning.warps,
        ring_bytes=tuning.stages * (aligned(stage) + ARRIVAL_BYTES),
    )


def a8_tuning(linear: Linear, multiprocessors: int, shared_bytes: int) -> A8Tuning:
    """A choice for a GPU with so many multiprocessors, `shared_bytes` on each for its blocks.

    Reasoned, not measured: 128 tokens need eight warps, for registers; else two blocks of four on a
    multiprocessor where both have two stages; K in as many parts as fill them.
    """
    tokens = _smallest(A8_TOKENS, linear.m)
    tuning = A8Tuning(tokens=tokens, stages=1)
    if tokens == A8_TOKENS[-1]:
        tuning = replace(tuning, token_warps=2, warps=8)
    one = w4a8_gemm(linear, tuning)
    resident = 2 if tuning.warps == 4 and shared_bytes // 2 >= 2 * one.shared_bytes else 1
    stages = max(2, min(MAX_STAGES, shared_bytes // resident // one.shared_bytes))
    return replace(tuning, stages=stages, splits=_splits(linear, one, resident * multiprocessors))


def wgmma_tuning(linear: Linear, multiprocessors: int, shared_bytes: int) -> WgmmaTuning:
    """A choice of `w4a16_wgmma` for a GPU; see `_tall_blocks`."""
    sharing = _sharing(A16_SHARING, linear.m)
    return _tall_blocks(w4a16_wgmma, linear, sharing, multiprocessors, shared_bytes)


def a8_wgmma_tuning(linear: Linear, multiprocessors: int, shared_bytes: int) -> WgmmaTuning:
    """A choice of `w4a8_wgmma` for a GPU; see `_tall_blocks`."""
    sharing = _sharing(A8_SHARING, linear.m)
    return _tall_blocks(w4a8_wgmma, linear, sharing, multiprocessors, shared_bytes)


def _sharing(table: tuple[Sharing, ...], m: int) -> Sharing:
    return next((row for row in table if row.tokens >= m), table[-1])


def _tall_blocks(
    plan: Callable[[Linear, WgmmaTuning], Launch],
    linear: Linear,
    sharing: Sharing,
    multiprocessors: int,
    shared_bytes: int,
) -> WgmmaTuning:
    """As many blocks as the multiprocessors hold at once; of equals the fewest parts of K.

    Where one part of K is too many already: 256 rows, whose codes cost least to bring. As many
    stages as fit in a block's part of `shared_bytes`. At 64 tokens these are the rows and parts
    that were fastest on an H200 while parts were added through global memory (qkv, o, gate_up and
    down of Llama-3-8B); other choices are reasoned, not measured.
    """
    base = WgmmaTuning(
        tokens=sharing.tokens,
        warps=sharing.warps,
        producers=sharing.producers,
        batch=sharing.batch,
        batches=sharing.batches,
    )
    choices = [
        replace(base, tiles=tiles, splits=splits)
        for splits in WGMMA_SPLITS
        for tiles in sharing.tiles
        if splits == 1 or splits <= _most_splits(linear)
    ]
    blocks = {choice: math.prod(plan(linear, choice).grid) for choice in choices}
    fitting = [
        one
        for one in choices
        if blocks[one] <= at_once(one.splits, multiprocessors) * sharing.blocks
    ]
    chosen = max(fitting, key=blocks.__getitem__, default=choices[0])
    four, five = (plan(linear, replace(chosen, stages=stages)) for stages in (4, 5))
    stage = five.shared_bytes - four.shared_bytes
    room = shared_bytes // sharing.blocks
    least = 4 if sharing.tokens <= 128 else 3  # 4 of 256 tokens do not fit
    return replace(chosen, stages=max(least, min(sharing.stages, room // stage)))


def at_once(splits: int, multiprocessors: int) -> int:
    """Blocks that run at once: a cluster lies in one GPC, of 16 or 18 multiprocessors (H100)."""
    return multiprocessors if splits <= 2 else multiprocessors // 16 * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Outputs of a block: tokens x packed rows; K is cut in `splits` parts."""

    tokens: int
    rows: int
    splits: int


def _launch(
    kernel: str,
    macros: tuple[tuple[str, int], ...],
    linear: Linear,
    block: _Block,
    *,
    warps: int,
    shared_bytes: int,
) -> Launch:
    return Launch(
        file=f"{kernel}.cu",
        kernel=kernel,
        macros=macros,
        grid=(-(-linear.m // block.tokens), -(-linear.n // block.rows), block.splits),
        threads=32 * warps,
        shared_bytes=shared_bytes,
    )


def _cluster_launch(
    kernel: str,
    macros: tuple[tuple[str, int], ...],
    linear: Linear,
    block: _Block,
    *,
    warps: int,
    ring_bytes: int,
) -> Launch:
    """Parts of K are a cluster's blocks, whose sums take the place of their stages."""
    if block.splits not in WGMMA_SPLITS:
        raise ValueError(
            f"[{kernel}] splits must be one of {WGMMA_SPLITS}, got {block.splits}; choose another"
        )
    sums_bytes = 4 * block.tokens * (block.rows + 4)
    one = _launch(
        kernel, macros, linear, block, warps=warps, shared_bytes=max(ring_bytes, sums_bytes)
    )
    return replace(one, cluster=block.splits)


def _check_a8_inputs(kernel: str, linear: Linear, scales: A8Scales) -> None:
    _check_inputs(kernel, linear, 64)
    if scales is A8Scales.ROW and linear.k > MOST_ROW_INPUTS:
        raise ValueError(
            f"[{kernel}] K must be at most {MOST_ROW_INPUTS} where integers are added over all of "
            f"it, got K={linear.k}; use a smaller group"
        )


def _scale_bytes(linear: Linear, tokens: int, scales: A8Scales) -> int:
    """Of a stage: the tokens' scales of each group."""
    return 0 if scales is A8Scales.ROW else 4 * CHUNK_INPUTS // linear.group * tokens


def _check_inputs(kernel: str, linear: Linear, multiple: int) -> None:
    if linear.k % multiple:
        raise ValueError(
            f"[{kernel}] K must be a multiple of {multiple}, got K={linear.k}; pad the rows of x"
        )


def _smallest(sizes: tuple[int, ...], m: int) -> int:
    return next((size for size in sizes if size >= m), sizes[-1])


def _most_splits(linear: Linear) -> int:
    """Parts of K that are PART_CHUNKS chunks or longer."""
    return -(-linear.k // CHUNK_INPUTS) // PART_CHUNKS


def _splits(linear: Linear, one: Launch, blocks: int) -> int:
    """Parts of K that make so many blocks of a grid."""
    return max(1, min(blocks // (one.grid[0] * one.grid[1]), _most_splits(linear)))


def _slab_bytes(rows: int, token_warps: int) -> int:
    return 4 * SLAB_TOKENS * token_warps * (rows + 4)


def aligned(size_bytes: int) -> int:
    """A stage's bytes, rounded up to where the next one may begin."""
    return -(-size_bytes // WGMMA_ALIGNMENT) * WGMMA_ALIGNMENT
