"""How each w4a16 kernel is compiled and launched for a shape: macros, grid, shared memory, workspace.

A `Launch` is all that a driver needs besides pointers. The numbers restate the constants of the
`.cu` files; the emulation tests run with shared memory and workspace of exactly these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebench_kernels.cuda.layout import TILE_INPUTS, TILE_ROWS, padded_inputs

# Flags of EB_EPILOGUE (csrc/cuda/epilogue.cuh).
BIAS, RESIDUAL, SWIGLU, FLOAT_OUT = 1, 2, 4, 8

CHUNK_INPUTS = 128
CHUNK_BYTES = {32: 1216, 64: 1120, 128: 1072}  # of 16 rows, by group
X_ROW_BYTES = 2 * CHUNK_INPUTS + 16  # of a chunk of one token in shared memory
GEMV_TOKENS = (1, 2, 4, 8)  # largest M of a compiled GEMV
GEMM_TOKENS = (16, 32, 64, 128)  # of a block
TILE_WARPS = 8  # of a block of the kernels that go tile by tile

Macros = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel of one file, and the size of its launch. Units: threads, bytes."""

    file: str
    kernel: str
    macros: Macros
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    workspace_bytes: int = 0
    counters: int = 0


def gemv(
    m: int,
    n: int,
    k: int,
    group: int,
    epilogue: int = 0,
    *,
    warps: int = 8,
    stages: int = 4,
    tiles: int | None = None,
    is_dependent: bool = False,
) -> Launch:
    """`w4a16_gemv` for 1 <= M <= 8: all of K in one block, `tiles` times 16 rows of it.

    Raises ValueError outside 1..8.
    """
    if not 1 <= m <= GEMV_TOKENS[-1]:
        raise ValueError(f"[w4a16_gemv] M must be 1..{GEMV_TOKENS[-1]}, got {m}; use w4a16_gemm")
    tokens = next(size for size in GEMV_TOKENS if size >= m)
    if tiles is None:
        tiles = 1 if tokens <= 2 else 2  # more tokens: share their rows among more outputs
    stage = tiles * CHUNK_BYTES[group] + tokens * X_ROW_BYTES
    sums = 4 * TILE_ROWS * tiles * tokens
    return Launch(
        file="w4a16_gemv.cu",
        kernel="w4a16_gemv",
        macros=(
            ("EB_GROUP", group),
            ("EB_TOKENS", tokens),
            ("EB_TILES", tiles),
            ("EB_WARPS", warps),
            ("EB_STAGES", stages),
            ("EB_EPILOGUE", epilogue),
            ("EB_DEPENDENT", int(is_dependent)),
        ),
        grid=(_blocks(n, TILE_ROWS * tiles), 1, 1),
        threads=32 * warps,
        shared_bytes=max(warps * stages * stage, (warps + 1) * sums),
    )


def gemm(
    m: int,
    n: int,
    k: int,
    group: int,
    epilogue: int = 0,
    *,
    tokens: int | None = None,
    tiles: int = 2,
    warps: int = 4,
    stages: int | None = None,
    splits: int = 1,
    is_dependent: bool = False,
) -> Launch:
    """`w4a16_gemm` for any M >= 1: blocks of `tokens` x (16 `tiles` `warps`) outputs, K in `splits`.

    `tokens`: 16, 32, 64 or 128; the smallest that holds M by default. With splits > 1 the launch
    needs `workspace_bytes` of memory in any state and `counters` u32 that are zero, and leaves
    them zero.
    """
    if tokens is None:
        tokens = next((size for size in GEMM_TOKENS if size >= m), GEMM_TOKENS[-1])
    if stages is None:
        stages = {16: 4, 32: 4, 64: 3, 128: 2}[tokens]
    columns = TILE_ROWS * tiles * warps
    stage = tiles * warps * CHUNK_BYTES[group] + tokens * X_ROW_BYTES
    slab = 4 * 16 * (columns + 4)  # 16 tokens of sums on their way out
    grid = (_blocks(n, columns), _blocks(m, tokens), max(1, splits))
    blocks = grid[0] * grid[1]
    return Launch(
        file="w4a16_gemm.cu",
        kernel="w4a16_gemm",
        macros=(
            ("EB_GROUP", group),
            ("EB_TOKENS", tokens),
            ("EB_TILES", tiles),
            ("EB_WARPS", warps),
            ("EB_STAGES", stages),
            ("EB_EPILOGUE", epilogue),
            ("EB_DEPENDENT", int(is_dependent)),
        ),
        grid=grid,
        threads=32 * warps,
        shared_bytes=max(stages * stage, slab),
        workspace_bytes=4 * blocks * tokens * columns * grid[2] if grid[2] > 1 else 0,
        counters=blocks if grid[2] > 1 else 0,
    )


def gemm_splits(m: int, n: int, k: int, multiprocessors: int, *, columns: int = 128) -> int:
    """Parts of K that give every multiprocessor two blocks, each part at least 4 chunks long."""
    tokens = next((size for size in GEMM_TOKENS if size >= m), GEMM_TOKENS[-1])
    blocks = _blocks(n, columns) * _blocks(m, tokens)
    longest = _blocks(k, CHUNK_INPUTS) // 4
    return max(1, min(2 * multiprocessors // blocks, longest))


def dequant(n: int, k: int, group: int) -> Launch:
    """`w4_dequant`: a warp for each tile of 16 rows x 64 inputs."""
    grid = (_blocks(_tiles(k), TILE_WARPS), _blocks(n, TILE_ROWS), 1)
    return _tile_launch("w4_dequant", group, grid)


def repack(n: int, k: int, group: int) -> Launch:
    """`w4_repack`: a warp for each block of 16 rows x 64 (128 at group 128) inputs."""
    blocks = _tiles(k) // max(1, group // TILE_INPUTS)
    return _tile_launch("w4_repack", group, (_blocks(blocks, TILE_WARPS), _blocks(n, TILE_ROWS), 1))


def _tile_launch(kernel: str, group: int, grid: tuple[int, int, int]) -> Launch:
    return Launch(
        file=f"{kernel}.cu",
        kernel=kernel,
        macros=(("EB_GROUP", group),),
        grid=grid,
        threads=32 * TILE_WARPS,
        shared_bytes=0,
    )


def _tiles(k: int) -> int:
    return padded_inputs(k) // TILE_INPUTS


def _blocks(count: int, size: int) -> int:
    return -(-count // size)
