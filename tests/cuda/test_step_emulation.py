"""The small kernels of a decode step, emulated in every schedule, against numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry, step_geometry
from edgebench_kernels.cuda.step_geometry import (
    BAD_TOKEN,
    DELTA_FLOAT,
    DELTA_HALF,
    DELTA_NONE,
    FULL,
    NOT_FINITE,
    Codes,
)

from .emulation import SCHEDULES, SOURCES, Emulation
from .step import (
    LATE,
    check,
    check_codes,
    code_arrays,
    half_bound,
    launch_of,
    nan_like,
    rms_norm,
    run_everywhere,
    swiglu,
    variant_of,
)

pytestmark = [pytest.mark.native, pytest.mark.slow]

EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """A shape of rms_norm, and how it is compiled."""

    m: int
    n: int
    is_float: bool = True
    delta: int = DELTA_HALF
    codes: Codes | None = None

    def plan(self) -> geometry.Launch:
        return step_geometry.rms_norm(
            self.m, self.n, is_float=self.is_float, delta=self.delta, codes=self.codes
        )


# 8200 elements are more than 32 warps hold in one piece; 40 and 520 end inside a warp and a group.
NORMS = {
    "stream fp32": Norm(m=3, n=256),
    "no delta": Norm(m=1, n=40, delta=DELTA_NONE),
    "delta fp32": Norm(m=2, n=520, delta=DELTA_FLOAT),
    "stream fp16": Norm(m=2, n=520, is_float=False),
    "two pieces": Norm(m=1, n=8200),
    "codes of groups of 32": Norm(m=2, n=528, codes=Codes(group=32)),
    "codes of groups of 128": Norm(m=3, n=512, is_float=False, codes=Codes(group=128)),
    "codes of tokens": Norm(m=2, n=528, codes=Codes(group=64, is_token_scale=True)),
}
SWIGLUS = {
    "one block": (3, 768, None),
    "two blocks": (2, 1032, None),
    "codes of groups": (2, 1040, Codes(group=64)),
    "codes of tokens": (2, 2064, Codes(group=128, is_token_scale=True)),
}
QUANTIZES = {
    "groups of 32": (2, 80, Codes(group=32)),
    "groups of 128, two blocks": (1, 1168, Codes(group=128)),
    "tokens": (3, 272, Codes(group=128, is_token_scale=True)),
}
ARGMAX_HALF, ARGMAX_FLOAT = (step_geometry.argmax(1, 1, is_float=x) for x in (False, True))
EMBEDS = [
    step_geometry.embed(1, is_wide=x, is_float=y) for x in (True, False) for y in (True, False)
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [norm.plan() for norm in NORMS.values()]
    plans += [step_geometry.swiglu(m, n, codes=codes) for m, n, codes in SWIGLUS.values()]
    plans += [step_geometry.quantize(*shape) for shape in QUANTIZES.values()]
    plans += [*EMBEDS, ARGMAX_HALF, ARGMAX_FLOAT, step_geometry.advance()]
    return Emulation(tmp_path_factory.mktemp("step"), [variant_of(plan) for plan in plans])


@pytest.mark.parametrize("kernel", LATE)
def test_what_comes_late_is_not_restrict(kernel: str) -> None:
    """`const __restrict__` is read by ld.global.nc, which need not see what came meanwhile."""
    text = (SOURCES / f"{kernel}.cu").read_text(encoding="utf-8")
    parameters = text.partition(f"\n{kernel}(")[2].partition(")")[0].split(",")
    assert [i for i in LATE[kernel] if "__restrict__" in parameters[i]] == []
    assert any("__restrict__" in parameter for parameter in parameters)


# ------------------------------------------------------------------------------------------- embed


@pytest.mark.parametrize("is_float", [True, False], ids=["fp32", "fp16"])
@pytest.mark.parametrize("is_wide", [True, False], ids=["int64", "int32"])
def test_embed_copies_rows_and_poisons_what_is_no_token(
    program: Emulation, is_wide: bool, is_float: bool
) -> None:
    table = np.random.default_rng(0).standard_normal((11, 1032)).astype(np.float16)
    ids = np.array([3, 10, 0, 11, -1], np.int64 if is_wide else np.int32)
    x = nan_like((5, 1032), np.float32 if is_float else np.float16)
    arguments = (ids, table, x, np.full(5, FULL, np.uint32), np.int32(1032), np.int32(11))
    plan = step_geometry.embed(5, is_wide=is_wide, is_float=is_float)
    _, _, x, status = run_everywhere(program, plan, arguments)
    assert np.array_equal(x[:3], table[ids[:3]])
    assert np.isnan(x[3:]).all()
    assert status.tolist() == [FULL, FULL, FULL, FULL | BAD_TOKEN, FULL | BAD_TOKEN]
    _, _, x = run_everywhere(program, plan, (*arguments[:3], None, *arguments[4:]))
    assert np.isnan(x[3:]).all()


def test_a_wide_id_is_not_cut_to_32_bits(program: Emulation) -> None:
    table = np.ones((4, 8), np.float16)
    ids = np.array([1 << 32, (1 << 32) + 3], np.int64)
    arguments = (ids, table, nan_like((2, 8), np.float32), np.zeros(2, np.uint32))
    plan = step_geometry.embed(2)
    _, _, x, status = run_everywhere(program, plan, (*arguments, np.int32(8), np.int32(4)))
    assert np.isnan(x).all()
    assert (status == BAD_TOKEN).all()


# ---------------------------------------------------------------------------------------- rms_norm


def norm_case(norm: Norm, seed: int = 0) -> tuple[list, NDArray]:
    """Arguments, and the residual stream that must come out."""
    rng = np.random.default_rng(seed)
    shape = (norm.m, norm.n)
    stream = np.float32 if norm.is_float else np.float16
    x = (rng.standard_normal(shape) * np.array([[1.0], [30.0], [1e-3]])[: norm.m]).astype(stream)
    types = {DELTA_HALF: np.float16, DELTA_FLOAT: np.float32}
    delta = None
    after = x
    if norm.delta != DELTA_NONE:
        delta = rng.standard_normal(shape).astype(types[norm.delta])
        after = (x.astype(np.float32) + delta.astype(np.float32)).astype(stream)
    weight = rng.lognormal(0, 0.5, norm.n).astype(np.float32)
    if norm.codes is None:
        outputs = [nan_like(shape, np.float16), None, None, None]
    else:
        outputs = [None, *code_arrays(*shape, norm.codes)]
    sizes = [np.int32(norm.m), np.int32(norm.n), np.float32(EPS)]
    return [x, delta, weight, *outputs, *sizes], after


@pytest.mark.parametrize("name", NORMS)
def test_rms_norm(program: Emulation, name: str) -> None:
    norm = NORMS[name]
    arguments, after = norm_case(norm)
    x, *others = run_everywhere(program, norm.plan(), arguments)
    weight = others[0 if norm.delta == DELTA_NONE else 1]
    assert np.array_equal(x, after)
    y, bound = rms_norm(after, weight, EPS)
    if norm.codes is None:
        check(others[-1], y, half_bound(y, bound))
    else:
        check_codes(y, bound, norm.codes, tuple(others[-3:]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_row_that_overflows_is_nan_and_its_neighbour_is_not(
    program: Emulation, bad: float
) -> None:
    norm = NORMS["stream fp32"]
    arguments, _ = norm_case(norm)
    arguments[0][1, 77] = bad
    *_, y = run_everywhere(program, norm.plan(), arguments)
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()


def test_codes_of_a_row_that_overflows_have_the_scale_nan(program: Emulation) -> None:
    norm = NORMS["codes of groups of 32"]
    arguments, _ = norm_case(norm)
    arguments[0][1, 77] = np.inf
    *_, codes, scale, sums = run_everywhere(program, norm.plan(), arguments)
    assert np.isnan(scale[:, 1]).all()
    assert np.isfinite(scale[:, 0]).all()
    assert not codes[1].any()
    assert not sums[:, 1].any()


def test_a_row_of_zeros_stays_zero(program: Emulation) -> None:
    norm = NORMS["no delta"]
    arguments, _ = norm_case(norm)
    arguments[0][:] = 0
    *_, y = run_everywhere(program, norm.plan(), arguments)
    assert not y.any()


# ------------------------------------------------------------------------------ swiglu and quantize


@pytest.mark.parametrize("name", SWIGLUS)
def test_swiglu(program: Emulation, name: str) -> None:
    m, n, codes = SWIGLUS[name]
    gate_up = (4 * np.random.default_rng(1).standard_normal((m, 2 * n))).astype(np.float16)
    gate_up[0, :4] = (-65504, 65504, -90, 0)  # exp over- and underflows
    gate_up[0, n : n + 4] = (1, 1, 60000, -0.0)
    outputs = [nan_like((m, n), np.float16), None, None, None]
    if codes is not None:
        outputs = [None, *code_arrays(m, n, codes)]
    plan = step_geometry.swiglu(m, n, codes=codes)
    results = run_everywhere(program, plan, [gate_up, *outputs, np.int32(m), np.int32(n)])
    y, bound = swiglu(gate_up)
    if codes is None:
        check(results[-1], y, half_bound(y, bound))
    else:
        check_codes(y, bound, codes, tuple(results[-3:]))


def test_swiglu_of_nan_is_nan(program: Emulation) -> None:
    gate_up = np.ones((3, 1536), np.float16)
    gate_up[1, 5], gate_up[2, 768 + 6] = np.nan, np.nan
    plan = step_geometry.swiglu(3, 768)
    sizes = (np.int32(3), np.int32(768))
    y = run_everywhere(
        program, plan, [gate_up, nan_like((3, 768), np.float16), None, None, None, *sizes]
    )[-1]
    assert np.argwhere(np.isnan(y)).tolist() == [[1, 5], [2, 6]]


@pytest.mark.parametrize("name", QUANTIZES)
def test_quantize(program: Emulation, name: str) -> None:
    m, n, codes = QUANTIZES[name]
    x = np.random.default_rng(2).standard_normal((m, n)).astype(np.float16)
    x[0, :32] = 0  # a group without a peak
    x[-1, 40] = 6e4
    arrays = code_arrays(m, n, codes)
    plan = step_geometry.quantize(m, n, codes)
    _, *results = run_everywhere(program, plan, [x, *arrays, np.int32(m), np.int32(n)])
    exact = x.astype(np.float64)
    check_codes(exact, np.zeros_like(exact), codes, tuple(results))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["groups of 32", "tokens"])
def test_quantize_of_nan_or_infinity(program: Emulation, name: str, bad: float) -> None:
    m, n, codes = QUANTIZES[name]
    x = np.ones((m, n), np.float16)
    x[1, 33] = bad
    plan = step_geometry.quantize(m, n, codes)
    arguments = [x, *code_arrays(m, n, codes), np.int32(m), np.int32(n)]
    _, given, scale, sums = run_everywhere(program, plan, arguments)
    group = 0 if codes.is_token_scale else 1
    assert np.argwhere(np.isnan(scale)).tolist() == [[group, 1]]
    touched = slice(None) if codes.is_token_scale else slice(32, 64)
    assert not given[1, touched].any()
    assert not sums[group, 1]
    assert (given[0] == 127).all()


# ------------------------------------------------------------------------------------------ argmax


def run_argmax(program: Emulation, logits: NDArray, parts: int) -> tuple[list[int], list[int]]:
    """Ids and status of each row."""
    rows, n = logits.shape
    plan = step_geometry.argmax(rows, n, is_float=logits.dtype == np.float32)
    plan = geometry.Launch(
        **{name: getattr(plan, name) for name in ("file", "kernel", "macros", "threads")},
        grid=(parts, rows, 1),
        shared_bytes=plan.shared_bytes,
    )
    arguments = [logits, nan_like((rows,), np.int64), np.zeros(rows, np.uint32)]
    arguments += [np.zeros(rows, np.uint64), np.zeros(rows, np.uint32), np.int32(n)]
    _, ids, status, best, counters = run_everywhere(program, plan, arguments)
    assert not best.any()
    assert not counters.any()
    return ids.tolist(), status.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("n", "parts"), [(1, 1), (11, 2), (1003, 3), (2304, 1), (4104, 2)])
def test_argmax_is_numpys(program: Emulation, dtype: type, n: int, parts: int) -> None:
    rng = np.random.default_rng(n)
    logits = rng.standard_normal((3, n)).astype(dtype)
    logits[1] = -np.abs(logits[1])
    logits[2] = np.round(4 * logits[2])  # ties, between blocks too
    ids, status = run_argmax(program, logits, parts)
    assert ids == logits.argmax(-1).tolist()
    assert status == [0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_argmax_at_the_edges(program: Emulation, dtype: type) -> None:
    logits = np.zeros((6, 2304), dtype)
    logits[0, [5, 2300]] = -0.0  # as large as 0
    logits[1] = -1
    logits[1, [2299, 2301, 2302]] = -np.nan, np.inf, np.nan
    logits[2, [7, 9]] = np.inf, np.nan
    logits[3, [2100, 2200]] = np.inf
    logits[4] = -np.inf
    logits[5] = np.finfo(dtype).min
    logits[5, 2303] = np.finfo(dtype).max
    ids, status = run_argmax(program, logits, 2)
    assert ids == [0, 2299, 9, 2100, 0, 2303]
    assert status == [0, NOT_FINITE, NOT_FINITE, NOT_FINITE, NOT_FINITE, 0]


# ----------------------------------------------------------------------------------------- advance


class Loop:
    """The state of a greedy loop, as the host would keep it."""

    def __init__(self, rows: int, limit: int, length: int, eos: int) -> None:
        self.limit, self.length, self.eos = limit, length, eos
        self.columns = np.arange(rows, dtype=np.int32) % 3
        self.counts = np.zeros(rows, np.int32)
        self.finished = np.zeros(rows, np.int32)
        self.status = np.zeros(rows, np.uint32)
        self.output = np.full((rows, limit), -7, np.int64)
        self.remaining = np.full(1, -1, np.int32)

    def state(self) -> list[NDArray]:
        return [self.columns, self.counts, self.finished, self.status, self.output, self.remaining]

    def arguments(self, ids: NDArray[np.int64]) -> list:
        sizes = (len(ids), self.limit, self.length, self.eos)
        return [ids, *self.state(), *(np.int32(size) for size in sizes)]

    def step(self, ids: NDArray[np.int64]) -> None:
        for row, token in enumerate(ids):
            if self.finished[row]:
                continue
            self.finished[row] = 1
            if self.status[row] & (NOT_FINITE | BAD_TOKEN):
                continue
            self.output[row, self.counts[row]] = token
            self.counts[row] += 1
            if token == self.eos or self.counts[row] == self.limit:
                continue
            if self.columns[row] + 1 >= self.length:
                self.status[row] |= FULL
                continue
            self.columns[row] += 1
            self.finished[row] = 0
        self.remaining[0] = (self.finished == 0).sum()


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_advance_is_what_a_host_would_do(program: Emulation, rows: int) -> None:
    rng = np.random.default_rng(rows)
    loop, plan = Loop(rows, limit=5, length=6, eos=2), step_geometry.advance()
    for step in range(6):
        ids = rng.integers(0, 9, rows)
        ids[0] = 3  # never ends by itself
        if step == 2 and rows > 1:
            loop.status[1] = NOT_FINITE
            loop.status[3] = BAD_TOKEN
        given = loop.arguments(ids)
        results = run_everywhere(program, plan, [*map(np.copy, given[:7]), *given[7:]])
        loop.step(ids)
        for array, expected in zip(results[1:], loop.state(), strict=True):
            assert np.array_equal(array, expected)
    assert loop.counts[0] == 5
    assert loop.remaining[0] == 0
    assert rows < 5 or loop.status[2] == FULL or loop.finished[2]


def test_no_token_ends_a_row_where_there_is_no_eos(program: Emulation) -> None:
    loop = Loop(2, limit=9, length=9, eos=-1)
    ids = np.array([0, 2], np.int64)
    [[_, columns, counts, finished, *_, remaining]] = program.run(
        [launch_of(step_geometry.advance(), loop.arguments(ids), SCHEDULES[0])]
    )
    assert columns.tolist() == [1, 2]
    assert counts.tolist() == [1, 1]
    assert not finished.any()
    assert remaining[0] == 2
