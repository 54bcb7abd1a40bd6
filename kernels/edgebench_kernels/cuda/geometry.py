"""What each w4a16 kernel needs for a shape: macros, grid, shared memory, workspace.

A `Launch` is all that a driver needs besides pointers. The numbers restate the constants of the
`.cu` files; the emulation tests run with shared memory and workspace of exactly these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgebench_kernels.cuda.layout import TILE_INPUTS, TILE_ROWS, padded_inputs

# Flags of EB_EPILOGUE (csrc/cuda/epilogue.cuh).
BIAS, RESIDUAL, SWIGLU, FLOAT_OUT = 1, 2, 4, 8
STREAM, NORMED = 16, 32  # of the GEMV alone (csrc/cuda/stream.cuh)

CHUNK_INPUTS = 128
CHUNK_BYTES = {32: 1216, 64: 1120, 128: 1072}  # of 16 rows, by group
X_ROW_BYTES = 2 * CHUNK_INPUTS + 16  # of a chunk of one token in shared memory
GEMV_TOKENS = (1, 2, 4, 8, 16)  # largest M of a compiled GEMV
GEMM_TOKENS = (16, 32, 64, 128)  # of a block
# By tokens: at most 99 KB of shared memory, which every GPU since sm_80 gives a block.
GEMM_STAGES = {16: 4, 32: 4, 64: 2, 128: 2}
MAX_STAGES = 4
GEMV_TILES = (1, 2, 3, 4, 7)
GEMV_WARPS = (16, 8, 4)
TILE_WARPS = 8  # of a block of the kernels that go tile by tile

Macros = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear to compute: M tokens, N rows of the weight matrix (gate and up of SwiGLU), K inputs.

    group: what the weights are packed with (`layout.kernel_group`).   epilogue: flags.
    is_dependent: launched with programmatic stream serialization behind the kernel that makes x.
    """

    m: int
    n: int
    k: int
    group: int
    epilogue: int = 0
    is_dependent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GemvTuning:
    """Free choices of `w4a16_gemv`; blocks None: one for all rows that it takes at a time.

    row_warps: that share tokens, of `warps` in all.
    """

    tiles: int = 1
    warps: int = 8
    row_warps: int = 1
    stages: int = 2
    blocks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmTuning:
    """Free choices of `w4a16_gemm`; tokens None: the smallest block that holds M."""

    tokens: int | None = None
    tiles: int = 2
    warps: int = 4
    stages: int | None = None
    splits: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel of one file, and the size of its launch.

    workspace_bytes: of memory in any state.   counters: u32 that are zero before and after.
    cluster: blocks along z that read each other's shared memory, the whole grid along z (sm_90).
    box_rows: of the tiles in which a kernel with a tensor map reads its first argument (sm_90).
    """

    file: str
    kernel: str
    macros: Macros
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int = 0
    workspace_bytes: int = 0
    counters: int = 0
    cluster: int = 1
    box_rows: int = 0


def gemv(linear: Linear, tuning: GemvTuning = GemvTuning()) -> Launch:
    """`w4a16_gemv`, for 1 <= M <= 16: a block has all of K. ValueError outside 1..16."""
    if not 1 <= linear.m <= GEMV_TOKENS[-1]:
        raise ValueError(
            f"[w4a16_gemv] M must be 1..{GEMV_TOKENS[-1]}, got M={linear.m}; use w4a16_gemm"
        )
    tokens = next(size for size in GEMV_TOKENS if size >= linear.m)
    tiles, teams = tuning.tiles * tuning.row_warps, tuning.warps // tuning.row_warps
    turns = _blocks(linear.n, TILE_ROWS * tiles)
    stage = tiles * CHUNK_BYTES[linear.group] + tokens * X_ROW_BYTES
    sums = 4 * TILE_ROWS * tiles * tokens
    return Launch(
        file="w4a16_gemv.cu",
        kernel="w4a16_gemv",
        macros=(
            *_macros(linear, tokens, tuning.tiles, tuning.warps, tuning.stages),
            ("EB_ROW_WARPS", tuning.row_warps),
        ),
        grid=(min(tuning.blocks or turns, turns), 1, 1),
        threads=32 * tuning.warps,
        shared_bytes=teams * (tuning.stages * stage + sums) + 4 * tokens,
    )


def gemv_parts(linear: Linear, tuning: GemvTuning) -> int:
    """Parts of a row that blocks of `w4a16_gemv` write at a time."""
    return _blocks(linear.n, TILE_ROWS * tuning.tiles * tuning.row_warps)


def gemm(linear: Linear, tuning: GemmTuning = GemmTuning()) -> Launch:
    """`w4a16_gemm`, for any M >= 1: blocks of tokens x (16 tiles warps) outputs, K in splits."""
    tokens = tuning.tokens or gemm_tokens(linear.m)
    stages = tuning.stages or GEMM_STAGES[tokens]
    columns = TILE_ROWS * tuning.tiles * tuning.warps
    stage = tuning.tiles * tuning.warps * CHUNK_BYTES[linear.group] + tokens * X_ROW_BYTES
    slab = 4 * 16 * (columns + 4)  # 16 tokens of sums on their way out
    grid = (_blocks(linear.n, columns), _blocks(linear.m, tokens), tuning.splits)
    blocks = grid[0] * grid[1] * grid[2] if tuning.splits > 1 else 0
    return Launch(
        file="w4a16_gemm.cu",
        kernel="w4a16_gemm",
        macros=_macros(linear, tokens, tuning.tiles, tuning.warps, stages),
        grid=grid,
        threads=32 * tuning.warps,
        shared_bytes=max(stages * stage, slab),
        workspace_bytes=4 * blocks * tokens * columns,
        counters=blocks,
    )


def gemm_tokens(m: int) -> int:
    """Tokens of a block of `w4a16_gemm` for M tokens."""
    return next((size for size in GEMM_TOKENS if size >= m), GEMM_TOKENS[-1])


def gemv_tuning(linear: Linear, multiprocessors: int, shared_bytes: int) -> GemvTuning:
    """A choice for a GPU with so many multiprocessors, `shared_bytes` on each for its blocks.

    A block for each multiprocessor, and most rows at a time of those that give the busiest of them
    least to do, or 4 % more. Raced on an H200 at M = 1, 8 and 16 (`perf/gpu_check.py`, tunings).
    """
    sharing = (1, 2) if linear.m > 2 else (1,)
    sizes = [(tiles, row_warps) for row_warps in sharing for tiles in GEMV_TILES]
    rows = {size: _busiest_rows(linear.n, *size, multiprocessors) for size in sizes}
    even = 1.04 * min(rows.values())
    sizes.sort(key=lambda size: (rows[size] > even, -size[0] * size[1], -size[0]))
    most_stages = MAX_STAGES if not linear.is_dependent else 2 if linear.m <= 2 else 3
    return next(
        tuning
        for size in sizes
        for warps in _gemv_warps(linear, *size)
        for stages in range(most_stages, 1, -1)
        if gemv(linear, tuning := _gemv_of(size, warps, stages, multiprocessors)).shared_bytes
        <= shared_bytes
    )


def _gemv_of(size: tuple[int, int], warps: int, stages: int, blocks: int) -> GemvTuning:
    tiles, row_warps = size
    return GemvTuning(tiles=tiles, warps=warps, row_warps=row_warps, stages=stages, blocks=blocks)


def _gemv_warps(linear: Linear, tiles: int, row_warps: int) -> list[int]:
    """Registers suffice for them, and K has a chunk for each team."""
    most = min(16 if tiles <= 4 and linear.m <= 8 else 8, row_warps * _chunks(linear.k))
    return [warps for warps in GEMV_WARPS if warps <= most] or [GEMV_WARPS[-1]]


def _chunks(k: int) -> int:
    return _blocks(k, CHUNK_INPUTS)


def _busiest_rows(n: int, tiles: int, row_warps: int, blocks: int) -> int:
    """Rows of the block that has most, of 16 tiles rows of each warp at a time."""
    rows = TILE_ROWS * tiles * row_warps
    return _blocks(_blocks(n, rows), blocks) * rows


def gemm_tuning(linear: Linear, multiprocessors: int, shared_bytes: int) -> GemmTuning:
    """A choice for a GPU with so many multiprocessors, `shared_bytes` on each for its blocks.

    Reasoned, not measured: blocks of at most 64 tokens, whose warps then take 64 rows (shared
    memory is read half as often); two blocks on a multiprocessor where both have two stages; K in
    as many parts as fill them, each 4 chunks or longer.
    """
    tokens = min(64, gemm_tokens(linear.m))
    tuning = GemmTuning(tokens=tokens, tiles=4 if tokens == 64 else 2, stages=1)
    one = gemm(linear, tuning)
    resident, stages = _residency(one.shared_bytes, shared_bytes)
    splits = resident * multiprocessors // (one.grid[0] * one.grid[1])
    longest = _blocks(linear.k, CHUNK_INPUTS) // 4
    return replace(tuning, stages=stages, splits=max(1, min(splits, longest)))


def _residency(stage_bytes: int, shared_bytes: int) -> tuple[int, int]:
    """Blocks on a multiprocessor, and stages of each, 2 to 4."""
    resident = 2 if shared_bytes // 2 >= 2 * stage_bytes else 1
    return resident, max(2, min(MAX_STAGES, shared_bytes // resident // stage_bytes))


def dequant(n: int, k: int, group: int) -> Launch:
    """`w4_dequant`: a warp for each tile of 16 rows x 64 inputs."""
    return _by_tiles("w4_dequant", group, padded_inputs(k) // TILE_INPUTS, n)


def repack(n: int, k: int, group: int) -> Launch:
    """`w4_repack`: a warp for each block of 16 rows x 64 (at group 128: 128) inputs."""
    return _by_tiles("w4_repack", group, padded_inputs(k) // max(TILE_INPUTS, group), n)


def _by_tiles(kernel: str, group: int, tiles: int, n: int) -> Launch:
    return Launch(
        file=f"{kernel}.cu",
        kernel=kernel,
        macros=(("EB_GROUP", group),),
        grid=(_blocks(tiles, TILE_WARPS), _blocks(n, TILE_ROWS), 1),
        threads=32 * TILE_WARPS,
    )


def _macros(linear: Linear, tokens: int, tiles: int, warps: int, stages: int) -> Macros:
    return (
        ("EB_GROUP", linear.group),
        ("EB_TOKENS", tokens),
        ("EB_TILES", tiles),
        ("EB_WARPS", warps),
        ("EB_STAGES", stages),
        ("EB_EPILOGUE", linear.epilogue),
        ("EB_DEPENDENT", int(linear.is_dependent)),
    )


def _blocks(count: int, size: int) -> int:
    return -(-count // size)
