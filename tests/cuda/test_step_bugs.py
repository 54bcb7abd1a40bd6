"""The emulation catches bugs in the small kernels of a step: each planted, each must show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda import step_geometry
from edgebench_kernels.cuda.step_geometry import NOT_FINITE, Codes

from .attention import Case, append_arguments_of, case, check_append, check_untouched, inputs_of
from .emulation import Argument, Emulation
from .planted import EITHER, OUTSIDE, Bug, check_caught, check_well, program_of
from .step import (
    StepCase,
    check,
    check_codes,
    code_arrays,
    half_bound,
    nan_like,
    rms_norm,
    swiglu,
)

pytestmark = [pytest.mark.native, pytest.mark.slow]

EPS = 1e-5
NORM_CODES = Codes(group=32, is_token_scale=True)


def _norm_arguments() -> list[Argument]:
    rng = np.random.default_rng(0)
    x, delta = (rng.standard_normal((2, 528)) for _ in range(2))
    weight = rng.lognormal(0, 0.5, 528).astype(np.float32)
    arrays = code_arrays(2, 528, NORM_CODES)
    sizes = (np.int32(2), np.int32(528), np.float32(EPS))
    return [x.astype(np.float32), delta.astype(np.float16), weight, None, *arrays, *sizes]


def _check_norm(results: list[NDArray]) -> None:
    x, delta, *_ = _norm_arguments()
    assert np.array_equal(results[0], x + delta)
    y, bound = rms_norm(results[0], results[2], EPS)
    check_codes(y, bound, NORM_CODES, tuple(results[3:]))


def _swiglu_arguments() -> list[Argument]:
    gate_up = np.random.default_rng(1).standard_normal((2, 80)).astype(np.float16)
    return [gate_up, nan_like((2, 40), np.float16), None, None, None, np.int32(2), np.int32(40)]


def _check_swiglu(results: list[NDArray]) -> None:
    y, bound = swiglu(results[0])
    check(results[1], y, half_bound(y, bound))


def _argmax_arguments() -> list[Argument]:
    logits = np.full((3, 4104), -1, np.float16)
    logits[0, [700, 2500, 4103]] = 3
    logits[1, 50], logits[1, 3000] = -0.0, 0
    logits[2, [9, 2049]] = -np.nan, np.nan
    logits[2, 17] = np.inf
    zeros = (np.zeros(3, np.uint64), np.zeros(3, np.uint32))
    return [logits, nan_like((3,), np.int64), np.zeros(3, np.uint32), *zeros, np.int32(4104)]


def _check_argmax(results: list[NDArray]) -> None:
    _, ids, status, best, counters = results
    assert ids.tolist() == [700, 50, 9]
    assert status.tolist() == [0, 0, NOT_FINITE]
    assert not best.any()
    assert not counters.any()


def _append(one: Case) -> StepCase:
    rows, columns = np.array([0, 1, 1], np.int32), np.array([8, 2, 9], np.int32)

    def checked(results: list[NDArray]) -> None:
        inputs = inputs_of(one)
        after = replace(inputs, cells=results[1])
        check_untouched(inputs, after, [(0, 8), (1, 2)])
        for token in (0, 1):
            check_append(one, inputs, after, token, rows[token], columns[token])
        heads = results[0][:2, one.attention.heads : -one.attention.kv_heads]
        for token in (0, 1):
            check(heads[token], after.cells[0, rows[token], :, columns[token]].astype(float), 0)

    return StepCase(
        plan=step_geometry.rope_append(3, one.attention),
        arguments=lambda: append_arguments_of(one, inputs_of(one), rows, columns),
        truth=checked,
    )


NORM = StepCase(
    plan=step_geometry.rms_norm(2, 528, codes=NORM_CODES),
    arguments=_norm_arguments,
    truth=_check_norm,
)
SWIGLU = StepCase(
    plan=step_geometry.swiglu(2, 40), arguments=_swiglu_arguments, truth=_check_swiglu
)
ARGMAX = StepCase(
    plan=replace(step_geometry.argmax(3, 4104), grid=(2, 3, 1)),
    arguments=_argmax_arguments,
    truth=_check_argmax,
)
APPEND = _append(case(4, 2, 32, ((3, 8), (1, 2), (0, 0)), length=9, is_fused=False))

ROW, CODES, NORM_FILE, CACHE = "row.cuh", "codes.cuh", "rms_norm.cu", "kv_cache.cuh"
SUM_BARRIER = "  barrier();\n  float sum = 0;"
LARGEST_BARRIER = "  barrier();\n  u32 largest = 0;"

BUGS = {
    # rows
    "norm: sum read before it is written": Bug(
        of=NORM, patch=(ROW, SUM_BARRIER, SUM_BARRIER.replace("barrier();", ";"))
    ),
    "norm: peak read before it is written": Bug(
        of=NORM, patch=(ROW, LARGEST_BARRIER, LARGEST_BARRIER.replace("barrier();", ";"))
    ),
    "norm: peaks over the sums still read": Bug(
        of=NORM, patch=(NORM_FILE, "(u32*)memory + kWarps", "(u32*)memory")
    ),
    "norm: does not wait for the kernel before": Bug(
        of=NORM, patch=(NORM_FILE, "  grid_dependency_wait();\n", ""), in_all=True
    ),
    "norm: stream not stored": Bug(
        of=NORM,
        patch=(NORM_FILE, "if (kDelta != 0 && at < n) store_eight(x", "if (at < 0) store_eight(x"),
        in_all=True,
    ),
    "norm: a mean of one more": Bug(
        of=NORM, patch=(NORM_FILE, "(float)n + eps", "(float)(n + 1) + eps"), in_all=True
    ),
    "norm: past the row": Bug(
        of=NORM,
        patch=(NORM_FILE, "if (at < n) add_eight", "if (at < n + 8) add_eight"),
        seen=OUTSIDE,
        in_all=True,
    ),
    "codes: sums of twice the group": Bug(
        of=NORM, patch=(CODES, "mask < kGroup / kEight", "mask < 2 * kGroup / kEight"), in_all=True
    ),
    "codes: rounded before they are scaled": Bug(
        of=NORM,
        patch=(CODES, "float_to_s8(v[i] * inverse)", "float_to_s8(v[i]) * (s32)inverse"),
        in_all=True,
    ),
    "codes: in another order": Bug(of=NORM, patch=(CODES, "0x5140", "0x5410"), in_all=True),
    "codes: past the row": Bug(
        of=NORM, patch=(CODES, "if (at >= to.n) return;", ""), seen=OUTSIDE, in_all=True
    ),
    "swiglu: gate and up swapped": Bug(
        of=SWIGLU,
        patch=("swiglu.cu", "silu(gate[i]) * up[i]", "silu(up[i]) * gate[i]"),
        in_all=True,
    ),
    "swiglu: past the row": Bug(
        of=SWIGLU,
        patch=("swiglu.cu", "if (at < n) {", "if (at < n + 8) {"),
        seen=OUTSIDE,
        in_all=True,
    ),
    # argmax
    "argmax: the last of equals": Bug(
        of=ARGMAX, patch=("argmax.cu", "(u32)~index", "(u32)index"), in_all=True
    ),
    "argmax: -0 below 0": Bug(of=ARGMAX, patch=("argmax.cu", "value + 0.0f", "value"), in_all=True),
    "argmax: NaN is a large number": Bug(
        of=ARGMAX,
        patch=("argmax.cu", "if (magnitude(value) != magnitude(value)) return ~0u;", ""),
        in_all=True,
    ),
    "argmax: infinity not reported": Bug(
        of=ARGMAX, patch=("argmax.cu", "value >= kOrderedInfinity || ", ""), in_all=True
    ),
    "argmax: parts read before they are written": Bug(
        of=ARGMAX, patch=("argmax.cu", "  barrier();\n", "")
    ),
    "argmax: left as it was": Bug(
        of=ARGMAX, patch=("argmax.cu", "  best[row] = 0;\n", ""), in_all=True
    ),
    "argmax: the first block answers": Bug(
        of=ARGMAX, patch=("argmax.cu", "(u32)blocks_x() - 1", "0")
    ),
    # rotation and append
    "rope: the other way round": Bug(
        of=APPEND,
        patch=(CACHE, "low[turn][i] = a * c - b * s;", "low[turn][i] = a * c + b * s;"),
        in_all=True,
    ),
    "rope: the wrong half": Bug(
        of=APPEND, patch=(CACHE, "b * c + a * s", "b * c + b * s"), in_all=True
    ),
    "rope: neighbours instead of halves": Bug(
        of=APPEND,
        patch=(CACHE, "const float c = cos[at], s", "const float c = cos[at / 2], s"),
        in_all=True,
    ),
    "rope: turned by the column": Bug(
        of=APPEND,
        patch=("rope_append.cu", "rotations, column - start", "rotations, column"),
        in_all=True,
    ),
    "append: outside the cache": Bug(
        of=APPEND, patch=(CACHE, " && column < length", ""), seen=EITHER, in_all=True
    ),
    "append: keys for values": Bug(
        of=APPEND, patch=(CACHE, "(s64)kind * max_batch", "(s64)kind * 0"), in_all=True
    ),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    return program_of(tmp_path_factory.mktemp("bugs"), (), BUGS.values())


def test_without_a_bug_all_is_well(program: Emulation) -> None:
    check_well(program, BUGS.values())


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(program: Emulation, name: str) -> None:
    check_caught(program, BUGS[name])
