"""Decode attention over a static cache: cases for the emulator, and the float64 truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry, step_geometry
from edgebench_kernels.cuda.step_geometry import DecodeAttention

from .cases import HALF_TINY, HALF_ULP
from .emulation import Argument
from .step import FAST, FLOAT_ULP, check, half_bound, nan_like

THETA = 10_000.0
TENSOR_ULP = 2.0**-23  # a sum of tensor cores, which truncate, relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rows whose tokens lie in columns starts .. columns of a cache of `length` columns."""

    attention: DecodeAttention
    length: int
    starts: tuple[int, ...]
    columns: tuple[int, ...]
    warps: int = 2
    stages: int = 2
    least: int = 1
    spare_rows: int = 1
    """Rows of the cache that no row of the batch uses."""

    @property
    def max_batch(self) -> int:
        return self.attention.rows + self.spare_rows

    @property
    def qkv_heads(self) -> int:
        return self.attention.heads + 2 * self.attention.kv_heads

    @property
    def scale(self) -> np.float32:
        return np.float32(self.attention.head_dim**-0.5)

    def plan(self) -> geometry.Launch:
        return step_geometry.decode_attention(
            self.attention, warps=self.warps, stages=self.stages, least=self.least
        )


@dataclass(slots=True, kw_only=True)
class Inputs:
    """What a case computes on. Cells that a row does not have are NaN (int8: with scales NaN)."""

    qkv: NDArray[np.float16]  # [rows, heads + 2 kv_heads, D]
    cells: NDArray  # [2, max_batch, kv_heads, length, D]
    scales: NDArray[np.float32] | None  # [2, max_batch, kv_heads, length]
    rotations: NDArray[np.float32]  # [length, 2, D / 2]
    starts: NDArray[np.int32] = field(repr=False)
    columns: NDArray[np.int32] = field(repr=False)


def case(
    heads: int,
    kv_heads: int,
    head_dim: int,
    spans: tuple[tuple[int, int], ...],
    *,
    splits: int = 1,
    is_int8: bool = False,
    is_fused: bool = True,
    length: int | None = None,
    warps: int = 2,
    stages: int = 2,
    least: int = 1,
) -> Case:
    """A case from each row's (start, column)."""
    attention = DecodeAttention(
        rows=len(spans),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        splits=splits,
        is_int8=is_int8,
        is_fused=is_fused,
    )
    return Case(
        attention=attention,
        length=length or max(column for _, column in spans) + 1,
        starts=tuple(start for start, _ in spans),
        columns=tuple(column for _, column in spans),
        warps=warps,
        stages=stages,
        least=least,
    )


def rotation_table(length: int, head_dim: int) -> NDArray[np.float32]:
    """cos and sin of every position, fp32 [length, 2, D / 2]."""
    frequencies = THETA ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(length)[:, None] * frequencies
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def rotated(
    heads: NDArray[np.float64], rotation: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Heads [.., D] turned by one position, halves split, and what fp32 may be off."""
    low, high = np.split(heads.astype(np.float64), 2, axis=-1)
    cos, sin = rotation.astype(np.float64)
    turned = np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
    size = np.abs(low) * np.abs(cos) + np.abs(high) * np.abs(sin)
    other = np.abs(high) * np.abs(cos) + np.abs(low) * np.abs(sin)
    return turned, 3 * FLOAT_ULP * np.concatenate([size, other], axis=-1)


def inputs_of(case: Case, seed: int = 0) -> Inputs:
    """Random inputs; the new column is filled where the kernel does not do it itself."""
    rng = np.random.default_rng(seed)
    attention = case.attention
    size, length = attention.head_dim, case.length
    shape = (2, case.max_batch, attention.kv_heads, length)
    qkv = rng.standard_normal((attention.rows, case.qkv_heads, size)).astype(np.float16)
    if attention.is_int8:
        cells: NDArray = rng.integers(-127, 128, (*shape, size), dtype=np.int8)
        scales = rng.lognormal(-4.5, 0.7, shape).astype(np.float32)
    else:
        cells, scales = rng.standard_normal((*shape, size)).astype(np.float16), None
    last = [column - attention.is_fused for column in case.columns]
    for row in range(case.max_batch):
        outside = np.ones(length, bool)
        if row < attention.rows:
            outside[max(case.starts[row], 0) : max(last[row] + 1, 0)] = False
        poisoned = cells if scales is None else scales
        poisoned[:, row, :, outside] = np.nan
    spare = [0] * case.spare_rows
    return Inputs(
        qkv=qkv,
        cells=cells,
        scales=scales,
        rotations=rotation_table(length, size),
        starts=np.array([*case.starts, *spare], np.int32),
        columns=np.array([*case.columns, *spare], np.int32),
    )


def arguments_of(case: Case, inputs: Inputs) -> list[Argument]:
    """decode_attention's arguments; the workspace is NaN, counters are zero."""
    attention, plan = case.attention, case.plan()
    out = nan_like((attention.rows, attention.heads, attention.head_dim), np.float16)
    workspace = np.full(plan.workspace_bytes // 4, np.nan, np.float32)
    shared = [workspace, np.zeros(plan.counters, np.uint32)] if plan.counters else [None, None]
    sizes = (case.max_batch, attention.heads, attention.kv_heads, case.length)
    return [
        inputs.qkv,
        inputs.cells,
        inputs.scales,
        inputs.rotations,
        inputs.starts,
        inputs.columns,
        out,
        *shared,
        *(np.int32(size) for size in sizes),
        case.scale,
    ]


def append_arguments_of(
    case: Case, inputs: Inputs, rows: NDArray[np.int32] | None, columns: NDArray[np.int32]
) -> list[Argument]:
    """rope_append's arguments; qkv has one row for each of `columns`."""
    attention = case.attention
    sizes = (case.max_batch, attention.heads, attention.kv_heads, case.length)
    return [
        inputs.qkv,
        inputs.cells,
        inputs.scales,
        inputs.rotations,
        inputs.starts,
        rows,
        columns,
        *(np.int32(size) for size in sizes),
    ]


# ---------------------------------------------------------------------------------------- the truth


def check_cell(
    cell: NDArray, scale: NDArray | None, x: NDArray[np.float64], bound: NDArray[np.float64]
) -> None:
    """One column of the cache [kv_heads, D], written from x."""
    if scale is None:
        check(cell, x, half_bound(x, bound))
        return
    peak = np.abs(x).max(-1, keepdims=True)
    doubt = bound.max(-1, keepdims=True) + 4 * FLOAT_ULP * peak
    wide = scale.astype(np.float64)[:, None]
    check(127 * wide, peak, doubt)
    check(cell.astype(np.float64) * wide, x, bound + 0.5 * peak / 127 + 2 * doubt)
    assert (np.abs(cell.astype(int)).max(-1) == 127).all()


def check_append(
    case: Case, before: Inputs, after: Inputs, token: int, row: int, column: int
) -> None:
    """The key, rotated, and the value of one token of qkv, in their column."""
    attention = case.attention
    new = before.qkv[token, attention.heads :].astype(np.float64)
    key, value = np.split(new, 2, axis=0)
    key, bound = rotated(key, before.rotations[column - before.starts[row]])
    for kind, (x, allowed) in enumerate([(key, bound), (value, np.zeros_like(value))]):
        scale = None if after.scales is None else after.scales[kind, row, :, column]
        check_cell(after.cells[kind, row, :, column], scale, x, allowed)


def check_untouched(before: Inputs, after: Inputs, places: list[tuple[int, int]]) -> None:
    """All of the cache but these (row, column)."""
    for old, new in ((before.cells, after.cells), (before.scales, after.scales)):
        if old is None or new is None:
            continue
        restored = new.copy()
        for row, column in places:
            restored[:, row, :, column] = old[:, row, :, column]
        assert restored.tobytes() == old.tobytes(), "the cache was written elsewhere"


def check_attention(case: Case, inputs: Inputs, out: NDArray[np.float16]) -> None:
    """Raise AssertionError where out is further from the truth than rounding explains.

    `inputs`: qkv as the kernel got it, the cache as it stands afterwards.
    """
    attention = case.attention
    shared = attention.heads // attention.kv_heads
    for row, (start, column) in enumerate(zip(case.starts, case.columns, strict=True)):
        window = slice(start, column + 1)
        cells = inputs.cells[:, row, :, window].astype(np.float64)
        if inputs.scales is not None:
            cells = cells * inputs.scales[:, row, :, window, None].astype(np.float64)
        queries = inputs.qkv[row, : attention.heads].astype(np.float64)
        query_bound = np.zeros_like(queries)
        if attention.is_fused:
            queries, bound = rotated(queries, inputs.rotations[column - start])
            query_bound = half_bound(queries, bound)
        for head in range(attention.heads):
            keys, values = cells[:, head // shared]
            y, bound = _attend(case, queries[head], query_bound[head], keys, values)
            check(out[row, head], y, bound)


def _attend(
    case: Case,
    query: NDArray[np.float64],
    query_bound: NDArray[np.float64],
    keys: NDArray[np.float64],
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One head in float64, and how far the kernel may be from it.

    A score s is off by its query's rounding, by a sum of D products in tensor cores, and by four
    more fp32 operations (scales, log2(e), the peak taken away) on at most |s| + |peak|. If all
    scores are within e, each softmax weight is within a factor exp(2 e). Weights are rounded to
    fp16 (relative, and 2^-25 of the largest one, which counts as at most 1 beside a sum of at least
    1, on values or, for int8 cells, on codes / 127 of a peak that is in the weight); rescaled,
    summed over T columns in tensor cores, and merged: (T + 64) sums.
    """
    count, size = keys.shape
    scale = float(case.scale)
    scores = keys @ query * scale
    spread = (np.abs(keys) @ query_bound) * scale
    spread += (size + 16) * TENSOR_ULP * (np.abs(keys) @ np.abs(query)) * scale
    spread += 4 * FLOAT_ULP * (np.abs(scores) + np.abs(scores).max()) + 4 * FAST
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    relative = np.expm1(2 * spread.max()) + HALF_ULP + (count + 64) * TENSOR_ULP
    y = weights @ values
    bound = relative * (weights @ np.abs(values))
    size_of_values = np.ones_like(values) if case.attention.is_int8 else np.abs(values)
    bound += HALF_TINY / 2 * size_of_values.sum(0)
    return y, half_bound(y, bound)
