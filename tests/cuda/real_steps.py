"""The kernels between the linears on the shapes of a real model, against float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from edgebench_kernels.cuda import geometry, step_geometry
from edgebench_kernels.cuda.step_geometry import BAD_TOKEN, DELTA_HALF, DELTA_NONE, FULL, Codes

from . import attention
from .real_check import Check, Measured, Runner, twice
from .step import check, check_codes, code_arrays, half_bound, nan_like, rms_norm, swiglu

EPS = 1e-5

Rows = tuple[int, Codes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Sizes of a model, and what is asked of it. vocabulary: rows of the embedding that exist."""

    hidden: int
    inner: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_dim: int
    length: int
    rows: tuple[int, ...]
    splits: tuple[int, ...]
    prompt: int


LLAMA_8B = Model(
    hidden=4096,
    inner=14336,
    vocabulary=128256,
    heads=32,
    kv_heads=8,
    head_dim=128,
    length=2500,
    rows=(1, 8, 64),
    splits=(1, 17),
    prompt=300,
)
SMALL = Model(
    hidden=48,
    inner=272,
    vocabulary=2304,
    heads=4,
    kv_heads=2,
    head_dim=16,
    length=70,
    rows=(2,),
    splits=(1, 2),
    prompt=5,
)
CODES = (Codes(group=128), Codes(group=32), Codes(group=64, is_token_scale=True))


def checks(model: Model) -> list[Check]:
    """A check or more for each kernel."""
    embed, advance = step_geometry.embed(6), step_geometry.advance()
    norms, rows = _norms(model), [(m, codes) for m in model.rows for codes in (None, *CODES)]
    gates = {(m, c): step_geometry.swiglu(m, model.inner, codes=c) for m, c in rows}
    quantizes = {(m, c): step_geometry.quantize(m, model.inner, c) for m, c in rows if c}
    choices = {
        (m, wide): step_geometry.argmax(m, model.vocabulary, is_float=wide)
        for m in model.rows
        for wide in (False, True)
    }
    made = [
        _check("embed", [embed], lambda runner: _embed(model, embed, runner)),
        _check("rms_norm", norms.values(), lambda runner: _rms_norm(model, norms, runner)),
        _check("swiglu", gates.values(), lambda runner: _swiglu(model, gates, runner)),
        _check("quantize", quantizes.values(), lambda runner: _quantize(model, quantizes, runner)),
        _check("argmax", choices.values(), lambda runner: _argmax(model, choices, runner)),
        _check("advance", [advance], lambda runner: _advance(model, advance, runner)),
    ]
    for is_int8 in (False, True):
        cells = "int8" if is_int8 else "fp16"
        made.append(_append_check(f"rope_append, {cells} cells", model, is_int8))
        for splits in model.splits:
            name = f"decode_attention, {cells} cells, {splits} splits"
            made.append(_attention_check(name, model, is_int8, splits))
    return made


def _check(name: str, plans: Iterable[geometry.Launch], run: Callable[[Runner], Measured]) -> Check:
    return Check(name=name, plans=tuple(plans), run=run)


def _norms(model: Model) -> dict[Rows, geometry.Launch]:
    """A single row has nothing added, others have fp16."""
    return {
        (m, codes): step_geometry.rms_norm(
            m, model.hidden, delta=DELTA_HALF if m > 1 else DELTA_NONE, codes=codes
        )
        for m in model.rows
        for codes in (None, *CODES)
    }


def _embed(model: Model, plan: geometry.Launch, runner: Runner) -> Measured:
    rng = np.random.default_rng(0)
    rows = min(model.vocabulary, 4096)
    table = rng.standard_normal((rows, model.hidden)).astype(np.float16)
    ids = np.array([3, rows - 1, 0, rows, -1, 1 << 32], np.int64)
    x, status = nan_like((6, model.hidden), np.float32), np.full(6, FULL, np.uint32)
    sizes = (np.int32(model.hidden), np.int32(rows))
    _, _, x, status = twice(runner, plan, [ids, table, x, status, *sizes])
    assert np.array_equal(x[:3], table[ids[:3]])
    assert np.isnan(x[3:]).all(), "what is no token must become NaN"
    assert status.tolist() == [FULL] * 3 + [FULL | BAD_TOKEN] * 3
    return {"rows": rows}


def _rms_norm(model: Model, plans: dict[Rows, geometry.Launch], runner: Runner) -> Measured:
    for (m, codes), plan in plans.items():
        rng = np.random.default_rng(m)
        shape = (m, model.hidden)
        x = (30 * rng.standard_normal(shape)).astype(np.float32)
        delta = rng.standard_normal(shape).astype(np.float16) if m > 1 else None
        weight = rng.lognormal(0, 0.5, model.hidden).astype(np.float32)
        after = x if delta is None else x + delta.astype(np.float32)
        half = [nan_like(shape, np.float16), None, None, None]
        outputs = half if codes is None else [None, *code_arrays(*shape, codes)]
        sizes = [np.int32(m), np.int32(model.hidden), np.float32(EPS)]
        arrays = twice(runner, plan, [x, delta, weight, *outputs, *sizes])
        assert np.array_equal(arrays[0], after), "the residual stream"
        y, bound = rms_norm(after, weight, EPS)
        if codes is None:
            check(arrays[-1], y, half_bound(y, bound))
        else:
            check_codes(y, bound, codes, (arrays[-3], arrays[-2], arrays[-1]))
    return {"rows": list(model.rows)}


def _swiglu(model: Model, plans: dict[Rows, geometry.Launch], runner: Runner) -> Measured:
    for (m, codes), plan in plans.items():
        shape = (m, model.inner)
        gate_up = np.random.default_rng(m).standard_normal((m, 2 * model.inner))
        gate_up = (4 * gate_up).astype(np.float16)
        half = [nan_like(shape, np.float16), None, None, None]
        outputs = half if codes is None else [None, *code_arrays(*shape, codes)]
        arrays = twice(runner, plan, [gate_up, *outputs, *map(np.int32, shape)])
        y, bound = swiglu(gate_up)
        if codes is None:
            check(arrays[-1], y, half_bound(y, bound))
        else:
            check_codes(y, bound, codes, (arrays[-3], arrays[-2], arrays[-1]))
    return {"rows": list(model.rows)}


def _quantize(model: Model, plans: dict[Rows, geometry.Launch], runner: Runner) -> Measured:
    for (m, codes), plan in plans.items():
        if codes is not None:
            shape = (m, model.inner)
            x = np.random.default_rng(m).standard_normal(shape).astype(np.float16)
            arguments = [x, *code_arrays(*shape, codes), *map(np.int32, shape)]
            _, given, scale, sums = twice(runner, plan, arguments)
            exact = x.astype(np.float64)
            check_codes(exact, np.zeros_like(exact), codes, (given, scale, sums))
    return {"rows": list(model.rows)}


def _argmax(
    model: Model, plans: dict[tuple[int, bool], geometry.Launch], runner: Runner
) -> Measured:
    for (m, is_float), plan in plans.items():
        dtype = np.float32 if is_float else np.float16
        logits = np.random.default_rng(m).standard_normal((m, model.vocabulary)).astype(dtype)
        logits[-1] = np.round(4 * logits[-1])  # ties, between blocks too
        state = [nan_like((m,), np.int64), np.zeros(m, np.uint32), np.zeros(m, np.uint64)]
        counters = np.zeros(m, np.uint32)
        arguments = [logits, *state, counters, np.int32(model.vocabulary)]
        _, ids, status, best, counters = twice(runner, plan, arguments)
        assert ids.tolist() == logits.argmax(-1).tolist()
        assert not status.any()
        assert not best.any(), "must be left zero"
        assert not counters.any(), "must be left zero"
    return {"rows": list(model.rows)}


def _advance(model: Model, plan: geometry.Launch, runner: Runner) -> Measured:
    """One row goes on, one ends with its limit, one has no column left."""
    ids, columns = np.array([5, 6, 7], np.int64), np.array([3, 4, model.length - 1], np.int32)
    counts, finished = np.array([0, 3, 1], np.int32), np.zeros(3, np.int32)
    output = np.full((3, 4), -7, np.int64)
    state = [columns, counts, finished, np.zeros(3, np.uint32), output, np.full(1, -1, np.int32)]
    sizes = map(np.int32, (3, 4, model.length, -1))
    arrays = twice(runner, plan, [ids, *state, *sizes])
    _, columns, counts, finished, status, output, remaining = arrays
    assert columns.tolist() == [4, 4, model.length - 1]
    assert counts.tolist() == [1, 4, 2]
    assert finished.astype(bool).tolist() == [False, True, True]
    assert status.tolist() == [0, 0, FULL]
    assert [output[0, 0], output[1, 3], output[2, 1]] == [5, 6, 7]
    assert remaining[0] == 1
    return {}


def _append_check(name: str, model: Model, is_int8: bool) -> Check:
    """Two prompts, one of which begins at a later column."""
    one = attention.case(
        model.heads,
        model.kv_heads,
        model.head_dim,
        ((0, model.prompt), (2, model.prompt)),
        is_int8=is_int8,
        is_fused=False,
    )
    tokens = [(row, column) for column in range(2, model.prompt) for row in (0, 1)]
    plan = step_geometry.rope_append(len(tokens), one.attention)
    return _check(name, [plan], lambda runner: _append(one, tokens, plan, runner))


def _append(
    one: attention.Case, tokens: list[tuple[int, int]], plan: geometry.Launch, runner: Runner
) -> Measured:
    size, is_int8 = one.attention.head_dim, one.attention.is_int8
    inputs = attention.inputs_of(one)
    shape = (len(tokens), one.qkv_heads, size)
    inputs.qkv = np.random.default_rng(3).standard_normal(shape).astype(np.float16)
    rows, columns = (np.array(part, np.int32) for part in zip(*tokens, strict=True))
    arguments = attention.append_arguments_of(one, inputs, rows, columns)
    qkv, cells, *rest = twice(runner, plan, arguments)
    after = replace(inputs, cells=cells, scales=rest[0] if is_int8 else None)
    attention.check_untouched(inputs, after, tokens)
    turned = one.attention.heads + one.attention.kv_heads
    assert np.array_equal(qkv[:, turned:], inputs.qkv[:, turned:])
    for token, (row, column) in enumerate(tokens):
        attention.check_append(one, inputs, after, token, row, column)
        heads = inputs.qkv[token, :turned].astype(np.float64)
        expected, bound = attention.rotated(heads, inputs.rotations[column - one.starts[row]])
        check(qkv[token, :turned], expected, half_bound(expected, bound))
    return {"tokens": len(tokens)}


def _attention_check(name: str, model: Model, is_int8: bool, splits: int) -> Check:
    """Rows of very different lengths, with the rings of production."""
    last = model.length - 1
    one = attention.case(
        model.heads,
        model.kv_heads,
        model.head_dim,
        ((5, last), (0, 0), (last // 3, last // 2)),
        splits=splits,
        is_int8=is_int8,
        length=model.length,
    )
    macros = dict(step_geometry.decode_attention(one.attention).macros)
    one = replace(one, warps=macros["EB_WARPS"], stages=macros["EB_STAGES"])
    return _check(name, [one.plan()], lambda runner: _decode_attention(one, runner))


def _decode_attention(one: attention.Case, runner: Runner) -> Measured:
    inputs, is_int8 = attention.inputs_of(one), one.attention.is_int8
    arrays = twice(runner, one.plan(), attention.arguments_of(one, inputs))
    is_split = one.plan().counters > 0
    assert not is_split or not arrays[-1].any(), "counters must be left zero"
    after = replace(inputs, cells=arrays[1], scales=arrays[2] if is_int8 else None)
    places = list(enumerate(one.columns))
    attention.check_untouched(inputs, after, places)
    for row, column in places:
        attention.check_append(one, inputs, after, row, row, column)
    attention.check_attention(one, after, arrays[-3 if is_split else -1])
    return {"columns": list(one.columns)}
