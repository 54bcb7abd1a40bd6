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
    Codes,
)

from .emulation import SOURCES, Emulation
from .planted import program_of
from .step import (
    LATE,
    check,
    check_codes,
    code_arrays,
    half_bound,
    nan_like,
    rms_norm,
    run_everywhere,
    swiglu,
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
EMBEDS = [
    step_geometry.embed(1, is_wide=x, is_float=y) for x in (True, False) for y in (True, False)
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [norm.plan() for norm in NORMS.values()]
    plans += [step_geometry.swiglu(m, n, codes=codes) for m, n, codes in SWIGLUS.values()]
    plans += [step_geometry.quantize(*shape) for shape in QUANTIZES.values()]
    plans += EMBEDS
    return program_of(tmp_path_factory.mktemp("step"), plans)


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
