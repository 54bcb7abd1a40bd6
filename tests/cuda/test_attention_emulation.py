"""Decode attention and the append to the cache, emulated in every schedule, against float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda import step_geometry

from .attention import (
    Case,
    Inputs,
    append_arguments_of,
    arguments_of,
    case,
    check_append,
    check_attention,
    check_untouched,
    inputs_of,
    rotated,
)
from .emulation import Emulation
from .planted import program_of
from .step import check, half_bound, run_everywhere

pytestmark = [pytest.mark.native, pytest.mark.slow]

# A stretch is at least warps tiles of 16 columns: with 2 warps, splits divide at multiples of 32.
CASES = {
    "one column": case(1, 1, 64, ((0, 0),)),
    "borders of tiles": case(2, 1, 64, ((0, 14), (0, 15), (0, 16), (3, 34)), length=40),
    "borders of splits": case(2, 2, 32, ((0, 30), (1, 32), (0, 32), (5, 69), (0, 63)), splits=3),
    "llama 3: 4 heads share keys": case(8, 2, 128, ((7, 90), (0, 83)), splits=2, length=100),
    "7 heads share keys": case(7, 1, 64, ((2, 40),), splits=2),
    "small trained model": case(8, 4, 32, ((0, 20), (9, 20), (20, 20))),
    "ring goes round": case(3, 3, 64, ((0, 130),), stages=3),
    "more splits than tiles": case(2, 1, 64, ((0, 70),), splits=9),
    "two tiles a warp before a split": case(2, 1, 32, ((0, 62), (0, 64)), splits=3, least=2),
    "more than 8 heads share keys": case(12, 1, 16, ((1, 49),), splits=2),
    "head of 48": case(2, 1, 48, ((0, 17),)),
    "head of 256, one warp": case(1, 1, 256, ((0, 33),), warps=1),
    "rotated before": case(4, 2, 64, ((3, 45), (0, 12)), splits=2, is_fused=False),
    "int8": case(8, 2, 128, ((7, 90), (0, 83)), splits=2, length=100, is_int8=True),
    "int8, small trained model": case(8, 4, 32, ((0, 20), (9, 20), (20, 20)), is_int8=True),
    "int8, ring goes round": case(2, 1, 64, ((0, 130),), stages=3, is_int8=True),
    "int8, head of 16": case(12, 1, 16, ((1, 49),), splits=2, is_int8=True),
    "int8, head of 48": case(2, 1, 48, ((0, 17),), is_int8=True),
    "int8, rotated before": case(
        4, 2, 64, ((3, 45), (0, 12)), splits=2, is_int8=True, is_fused=False
    ),
}
# (row, column) of tokens of a prompt phase: ragged rows, not in order.
TOKENS = ((0, 3), (0, 4), (1, 2), (0, 5), (1, 3), (1, 4), (1, 5))
APPENDS = {
    f"{'int8' if is_int8 else 'fp16'}, head of {size}": case(
        heads, kv_heads, size, ((3, 5), (2, 5)), length=9, is_int8=is_int8, is_fused=False
    )
    for is_int8 in (False, True)
    for heads, kv_heads, size in ((8, 2, 128), (3, 3, 16), (1, 1, 48), (4, 1, 256))
}


APART = ("rotated before", "int8, rotated before")


def fused_of(one: Case) -> Case:
    """The same, rotating and appending by itself."""
    return replace(one, attention=replace(one.attention, is_fused=True))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [one.plan() for one in CASES.values()]
    plans += [step_geometry.rope_append(1, one.attention) for one in APPENDS.values()]
    plans += [fused_of(CASES[name]).plan() for name in APART]
    plans += [step_geometry.rope_append(1, CASES[name].attention) for name in APART]
    return program_of(tmp_path_factory.mktemp("attention"), plans)


def run(program: Emulation, one: Case, inputs: Inputs) -> tuple[Inputs, NDArray[np.float16]]:
    """The cache and the outputs after decode_attention; counters must be left zero."""
    arguments = arguments_of(one, inputs)
    results = run_everywhere(program, one.plan(), arguments)
    is_split = arguments[-6] is not None
    if is_split:
        assert not results[-1].any(), "counters must be left zero"
    out = results[-3 if is_split else -1]
    scales = None if inputs.scales is None else results[2]
    return replace(inputs, cells=results[1], scales=scales), out


@pytest.mark.parametrize("name", CASES)
def test_decode_attention(program: Emulation, name: str) -> None:
    one = CASES[name]
    inputs = inputs_of(one)
    after, out = run(program, one, inputs)
    places = list(enumerate(one.columns)) if one.attention.is_fused else []
    check_untouched(inputs, after, places)
    for row, column in places:
        check_append(one, inputs, after, row, row, column)
    check_attention(one, after, out)


@pytest.mark.parametrize("name", APART)
def test_fused_is_what_append_and_then_attention_gives(program: Emulation, name: str) -> None:
    """To the bit: the same code rotates, rounds and appends."""
    apart = CASES[name]
    fused = fused_of(apart)
    inputs = inputs_of(fused)
    after, out = run(program, fused, inputs)
    plan = step_geometry.rope_append(len(apart.columns), apart.attention)
    arguments = append_arguments_of(apart, inputs, None, inputs.columns[: len(apart.columns)])
    results = run_everywhere(program, plan, arguments)
    scales = None if inputs.scales is None else results[2]
    between = replace(inputs, qkv=results[0], cells=results[1], scales=scales)
    assert between.cells.tobytes() == after.cells.tobytes()
    _, out_apart = run(program, apart, between)
    assert np.array_equal(out, out_apart)


def test_one_hot_attention_returns_the_value(program: Emulation) -> None:
    """A key that stands out by hundreds takes all the weight: the value comes back exactly."""
    one = CASES["rotated before"]
    inputs = inputs_of(one)
    inputs.qkv[:, : one.attention.heads] = 16
    for row, (start, column) in enumerate(zip(one.starts, one.columns, strict=True)):
        inputs.cells[0, row, :, start : column + 1] = -16
        inputs.cells[0, row, :, (start + column) // 2] = 16
    _, out = run(program, one, inputs)
    shared = one.attention.heads // one.attention.kv_heads
    for row, (start, column) in enumerate(zip(one.starts, one.columns, strict=True)):
        value = inputs.cells[1, row, :, (start + column) // 2]
        assert np.array_equal(out[row], np.repeat(value, shared, axis=0))


@pytest.mark.parametrize("name", ["borders of splits", "rotated before", "int8, rotated before"])
@pytest.mark.parametrize(("start", "column"), [(0, 500), (-1, 3), (4, 3), (0, -1)])
def test_a_row_without_a_place_gets_nan_and_writes_nothing(
    program: Emulation, name: str, start: int, column: int
) -> None:
    one = CASES[name]
    inputs = inputs_of(one)
    inputs.starts[1], inputs.columns[1] = start, column
    after, out = run(program, one, inputs)
    places = [(row, place) for row, place in enumerate(one.columns) if row != 1]
    check_untouched(inputs, after, places if one.attention.is_fused else [])
    assert np.isnan(out[1]).all()
    assert np.isfinite(np.delete(out, 1, axis=0)).all()


@pytest.mark.parametrize("name", ["borders of splits", "int8"])
@pytest.mark.parametrize("kind", [0, 1], ids=["key", "value"])
def test_nan_in_a_cell_makes_its_heads_nan_and_no_others(
    program: Emulation, name: str, kind: int
) -> None:
    one = CASES[name]
    inputs = inputs_of(one)
    poisoned = inputs.cells if inputs.scales is None else inputs.scales
    poisoned[kind, 1, 1, one.starts[1] + 2] = np.nan
    _, out = run(program, one, inputs)
    shared = one.attention.heads // one.attention.kv_heads
    assert np.isnan(out[1, shared : 2 * shared]).all()
    assert np.isfinite(out[1, :shared]).all()
    assert np.isfinite(np.delete(out, 1, axis=0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_new_key_that_is_not_finite_poisons_what_attends_to_it(
    program: Emulation, bad: float
) -> None:
    for name in ("borders of splits", "int8"):
        one = CASES[name]
        inputs = inputs_of(one)
        inputs.qkv[0, one.attention.heads, 5] = bad
        after, out = run(program, one, inputs)
        shared = one.attention.heads // one.attention.kv_heads
        assert np.isnan(out[0, :shared]).all()
        assert np.isfinite(out[0, shared:]).all()
        if after.scales is not None:
            assert np.isnan(after.scales[0, 0, 0, one.columns[0]])
            assert not after.cells[0, 0, 0, one.columns[0]].any()


def test_large_scores_do_not_overflow(program: Emulation) -> None:
    one = CASES["borders of splits"]
    inputs = inputs_of(one)
    inputs.qkv[:, : one.attention.heads] *= 100
    inputs.cells[0] *= 100
    after, out = run(program, one, inputs)
    assert np.isfinite(out).all()
    check_attention(one, after, out)


@pytest.mark.parametrize("name", APPENDS)
def test_rope_append_of_prompts(program: Emulation, name: str) -> None:
    one = APPENDS[name]
    attention = one.attention
    inputs = inputs_of(one)
    rng = np.random.default_rng(3)
    shape = (len(TOKENS), one.qkv_heads, attention.head_dim)
    inputs.qkv = rng.standard_normal(shape).astype(np.float16)
    rows, columns = (np.array(part, np.int32) for part in zip(*TOKENS, strict=True))
    plan = step_geometry.rope_append(len(TOKENS), attention)
    arguments = append_arguments_of(one, inputs, rows, columns)
    qkv, cells, *rest = run_everywhere(program, plan, arguments)
    after = replace(inputs, cells=cells, scales=None if inputs.scales is None else rest[0])
    check_untouched(inputs, after, list(TOKENS))
    turned = attention.heads + attention.kv_heads
    assert np.array_equal(qkv[:, turned:], inputs.qkv[:, turned:])
    for token, (row, column) in enumerate(TOKENS):
        check_append(one, inputs, after, token, row, column)
        heads = inputs.qkv[token, :turned].astype(np.float64)
        expected, bound = rotated(heads, inputs.rotations[column - one.starts[row]])
        check(qkv[token, :turned], expected, half_bound(expected, bound))


@pytest.mark.parametrize("name", ["fp16, head of 16", "int8, head of 128"])
def test_rope_append_leaves_a_token_without_a_place_alone(program: Emulation, name: str) -> None:
    one = APPENDS[name]
    inputs = inputs_of(one)
    inputs.qkv = np.repeat(inputs.qkv[:1], 3, axis=0)
    rows, columns = np.array([0, 0, 0], np.int32), np.array([9, 2, 3], np.int32)
    plan = step_geometry.rope_append(3, one.attention)
    qkv, cells, *rest = run_everywhere(
        program, plan, append_arguments_of(one, inputs, rows, columns)
    )
    after = replace(inputs, cells=cells, scales=None if inputs.scales is None else rest[0])
    check_untouched(inputs, after, [(0, 3)])
    assert np.array_equal(qkv[:2], inputs.qkv[:2])
