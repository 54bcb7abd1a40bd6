"""What each kernel between the linears of a step needs: macros, grid, shared memory, workspace.

The numbers restate the constants of the `.cu` files; the emulation tests run with shared memory and
workspace of exactly these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebench_kernels.cuda.geometry import Launch

EIGHT = 8  # elements of a piece (csrc/cuda/row.cuh)
SPAN = 32 * EIGHT  # elements of a warp and piece
MOST_WARPS = 32
TILE_COLUMNS = 16  # csrc/cuda/attention_tile.cuh
TILE_QUERIES = 8
HEAD_MULTIPLE = 16
LARGEST_HEAD = 256
LEAST_TILES = 2
"""Of a warp, before attention takes another block: so far a guess, nothing has been measured."""

COMMON_SHARED_BYTES = 99 << 10
"""Shared memory that a block may have on every architecture from sm_80 on."""

DELTA_NONE, DELTA_HALF, DELTA_FLOAT = 0, 1, 2
"""EB_DELTA of rms_norm: what is added to the residual stream first."""

BAD_TOKEN, NOT_FINITE, FULL = 1, 2, 4
"""Bits of a row's status (csrc/cuda/status.cuh)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """int8 outputs instead of fp16 ones: sums for groups of `group` inputs (32, 64 or 128)."""

    group: int
    is_token_scale: bool = False
    """One scale for a token instead of one for each of its groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeAttention:
    """Attention of one new token in each of `rows` rows. splits: blocks that share a row's columns.

    is_fused: the kernel rotates queries and keys and appends to the cache itself.
    """

    rows: int
    heads: int
    kv_heads: int
    head_dim: int
    splits: int = 1
    is_int8: bool = False
    is_fused: bool = True

    @property
    def groups(self) -> int:
        """Blocks a row and split: queries of a key head go eight by eight."""
        return self.kv_heads * _ceil(self.heads // self.kv_heads, TILE_QUERIES)

    @property
    def tile_bytes(self) -> int:
        """Of a tile of keys and values in shared memory, with the scales of int8 cells."""
        cells = self.head_dim * (1 if self.is_int8 else 2) + 16
        scales = 2 * TILE_COLUMNS * 4 if self.is_int8 else 0
        return 2 * TILE_COLUMNS * cells + scales

    def shared_bytes(self, warps: int, stages: int) -> int:
        """Queries, then a ring of `stages` tiles for each warp."""
        queries = TILE_QUERIES * (2 * self.head_dim + 16)
        return queries + warps * stages * self.tile_bytes


def embed(m: int, *, is_wide: bool = True, is_float: bool = True) -> Launch:
    """`embed`: int64 (`is_wide`) or int32 ids to fp32 (`is_float`) or fp16 rows."""
    macros = (("EB_WIDE", int(is_wide)), ("EB_FLOAT", int(is_float)))
    return Launch(file="embed.cu", kernel="embed", macros=macros, grid=(m, 1, 1), threads=128)


def rms_norm(
    m: int,
    n: int,
    *,
    is_float: bool = True,
    delta: int = DELTA_HALF,
    codes: Codes | None = None,
) -> Launch:
    """`rms_norm`: a block a row; `is_float`: the residual stream is fp32."""
    warps, pieces = _whole_row("rms_norm", n)
    macros = (
        ("EB_WARPS", warps),
        ("EB_PIECES", pieces),
        ("EB_FLOAT", int(is_float)),
        ("EB_DELTA", delta),
        *_code_macros(codes),
    )
    return Launch(
        file="rms_norm.cu",
        kernel="rms_norm",
        macros=macros,
        grid=(m, 1, 1),
        threads=32 * warps,
        shared_bytes=8 * warps,
    )


def swiglu(m: int, n: int, *, codes: Codes | None = None) -> Launch:
    """`swiglu`: n outputs a token, of 2 n inputs."""
    return _by_spans("swiglu", m, n, codes)


def quantize(m: int, n: int, codes: Codes) -> Launch:
    """`quantize`: fp16 activations to int8."""
    return _by_spans("quantize", m, n, codes)


def rope_append(m: int, attention: DecodeAttention) -> Launch:
    """`rope_append` for m tokens: a warp a head. Of `attention` the heads and cells count."""
    heads = attention.heads + 2 * attention.kv_heads
    return Launch(
        file="rope_append.cu",
        kernel="rope_append",
        macros=(("EB_HEAD", attention.head_dim), ("EB_BYTES", int(attention.is_int8))),
        grid=(m, _ceil(heads, 4), 1),
        threads=128,
    )


def decode_attention(
    attention: DecodeAttention,
    *,
    warps: int | None = None,
    stages: int | None = None,
    least: int = LEAST_TILES,
    shared_limit: int = COMMON_SHARED_BYTES,
) -> Launch:
    """`decode_attention`; by default the deepest rings that `shared_limit` bytes hold.

    least: tiles that each warp of a block has before a row gets another block.
    Raises ValueError for a head size that the kernel does not know.
    """
    size = attention.head_dim
    if size % HEAD_MULTIPLE or not HEAD_MULTIPLE <= size <= LARGEST_HEAD:
        raise ValueError(
            f"[decode_attention] head_dim must be a multiple of {HEAD_MULTIPLE} up to "
            f"{LARGEST_HEAD}, got {size}"
        )
    chosen = warps, stages
    if warps is None or stages is None:
        chosen = _deepest_rings(attention, shared_limit)
    warps, stages = chosen[0] or 1, chosen[1] or 2
    parts = attention.rows * attention.groups * attention.splits
    is_split = attention.splits > 1
    return Launch(
        file="decode_attention.cu",
        kernel="decode_attention",
        macros=(
            ("EB_HEAD", size),
            ("EB_BYTES", int(attention.is_int8)),
            ("EB_FUSED", int(attention.is_fused)),
            ("EB_WARPS", warps),
            ("EB_STAGES", stages),
            ("EB_LEAST", least),
        ),
        grid=(attention.splits, attention.groups, attention.rows),
        threads=32 * warps,
        shared_bytes=attention.shared_bytes(warps, stages),
        workspace_bytes=4 * parts * TILE_QUERIES * (size + 4) if is_split else 0,
        counters=attention.rows * attention.groups if is_split else 0,
    )


def attention_splits(attention: DecodeAttention, length: int, multiprocessors: int) -> int:
    """Blocks a row and head that give every multiprocessor one, none without tiles to take."""
    blocks = attention.rows * attention.groups
    stretch = 4 * LEAST_TILES * TILE_COLUMNS  # of a block of 4 warps
    return max(1, min(_ceil(multiprocessors, blocks), _ceil(length, stretch)))


def argmax(rows: int, n: int, *, is_float: bool = False) -> Launch:
    """`argmax` over n logits a row, fp16 or (`is_float`) fp32.

    Needs one u64 and one u32 a row that are zero before and after: `counters` counts the u32.
    """
    return Launch(
        file="argmax.cu",
        kernel="argmax",
        macros=(("EB_FLOAT", int(is_float)),),
        grid=(max(1, min(_ceil(n, 8 * SPAN), 64)), rows, 1),
        threads=256,
        shared_bytes=64,
        counters=rows,
    )


def advance() -> Launch:
    """`advance`, for any number of rows."""
    return Launch(
        file="advance.cu", kernel="advance", macros=(), grid=(1, 1, 1), threads=256, shared_bytes=32
    )


def _deepest_rings(attention: DecodeAttention, shared_limit: int) -> tuple[int, int]:
    for warps, stages in ((4, 3), (4, 2), (2, 3), (2, 2), (1, 2)):
        if attention.shared_bytes(warps, stages) <= shared_limit:
            return warps, stages
    raise ValueError(
        f"[decode_attention] head_dim {attention.head_dim} needs "
        f"{attention.shared_bytes(1, 2)} bytes of shared memory, a block has {shared_limit}"
    )


def _by_spans(kernel: str, m: int, n: int, codes: Codes | None) -> Launch:
    """Four warps to a block, or with a scale for the whole token as many as its row needs."""
    warps, pieces = min(4, _ceil(n, SPAN)), 1
    if codes is not None and codes.is_token_scale:
        warps, pieces = _whole_row(kernel, n)
    return Launch(
        file=f"{kernel}.cu",
        kernel=kernel,
        macros=(("EB_WARPS", warps), ("EB_PIECES", pieces), *_code_macros(codes)),
        grid=(_ceil(n, SPAN * warps * pieces), m, 1),
        threads=32 * warps,
        shared_bytes=4 * warps,
    )


def _whole_row(kernel: str, n: int) -> tuple[int, int]:
    """Warps and pieces of a block that holds a row of n; ValueError where n is no whole eights."""
    if n < 1 or n % EIGHT:
        raise ValueError(f"[{kernel}] rows must be a multiple of {EIGHT} long, got {n}")
    warps = min(MOST_WARPS, _ceil(n, SPAN))
    return warps, _ceil(n, SPAN * warps)


def _code_macros(codes: Codes | None) -> tuple[tuple[str, int], ...]:
    if codes is None:
        return (("EB_GROUP", 0), ("EB_TOKEN_SCALE", 0))
    return (("EB_GROUP", codes.group), ("EB_TOKEN_SCALE", int(codes.is_token_scale)))


def _ceil(count: int, size: int) -> int:
    return -(-count // size)
