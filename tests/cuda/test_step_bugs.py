"""The emulation catches bugs in the kernels between the linears: each planted, each must show.

They show as a message of the emulator or of AddressSanitizer, or as wrong numbers; a race in some
schedule, wrong arithmetic in all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry, step_geometry
from edgebench_kernels.cuda.step_geometry import NOT_FINITE, Codes

from .attention import (
    Case,
    append_arguments_of,
    arguments_of,
    case,
    check_append,
    check_attention,
    check_untouched,
    inputs_of,
)
from .emulation import SCHEDULES, Argument, Emulation, EmulationError, Patch, Schedule
from .step import (
    check,
    check_codes,
    code_arrays,
    half_bound,
    launch_of,
    nan_like,
    rms_norm,
    swiglu,
    variant_of,
)

pytestmark = [pytest.mark.native, pytest.mark.slow]

NUMBERS = "numbers"
OUTSIDE = "heap-buffer-overflow"
EITHER = f"{OUTSIDE}|{NUMBERS}"
DIVERGENCE = r"\[emulator\] divergence: one barrier from decode_attention.cu:\d+"
EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A launch, and what raises AssertionError where its buffers came out wrong."""

    plan: geometry.Launch
    arguments: Callable[[], list[Argument]]
    check: Callable[[list[NDArray]], None]


# ---------------------------------------------------------------------------------------- subjects

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


def _attention(one: Case) -> Subject:
    """With memory behind the cache's last column that must not be read."""

    def checked(results: list[NDArray]) -> None:
        inputs = inputs_of(one)
        cells, scales = results[1], None if inputs.scales is None else results[2]
        after = replace(inputs, cells=cells, scales=scales)
        check_untouched(inputs, after, list(enumerate(one.columns)))
        for row, column in enumerate(one.columns):
            check_append(one, inputs, after, row, row, column)
        check_attention(one, after, results[-3])
        assert not results[-1].any()

    return Subject(
        plan=one.plan(), arguments=lambda: arguments_of(one, inputs_of(one)), check=checked
    )


def _append(one: Case) -> Subject:
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

    return Subject(
        plan=step_geometry.rope_append(3, one.attention),
        arguments=lambda: append_arguments_of(one, inputs_of(one), rows, columns),
        check=checked,
    )


NORM = Subject(
    plan=step_geometry.rms_norm(2, 528, codes=NORM_CODES),
    arguments=_norm_arguments,
    check=_check_norm,
)
SWIGLU = Subject(plan=step_geometry.swiglu(2, 40), arguments=_swiglu_arguments, check=_check_swiglu)
ARGMAX = Subject(
    plan=replace(step_geometry.argmax(3, 4104), grid=(2, 3, 1)),
    arguments=_argmax_arguments,
    check=_check_argmax,
)
# Rings that go round, a ragged start, three heads to a key, a cache that ends with the last tile.
FULL = _attention(case(6, 2, 32, ((3, 130), (0, 49)), splits=2))
INT8 = _attention(case(6, 2, 32, ((3, 130), (0, 49)), splits=2, is_int8=True))
# One row of eight heads, which two warps publish, in two blocks, which live at the same time.
SPLIT = _attention(case(8, 1, 32, ((0, 63),), splits=2))
APPEND = _append(case(4, 2, 32, ((3, 8), (1, 2), (0, 0)), length=9, is_fused=False))

# ----------------------------------------------------------------------------------------- the bugs


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A patch of a subject's kernel; `seen`: how it shows; `in_all`: in every schedule.

    seeds: orders of events tried in each schedule.
    """

    of: Subject
    patch: Patch
    seen: str = NUMBERS
    in_all: bool = True
    seeds: int = 1


ROW, CODES, NORM_FILE = "row.cuh", "codes.cuh", "rms_norm.cu"
CACHE, TILE, MERGE, DECODE = (
    "kv_cache.cuh",
    "attention_tile.cuh",
    "attention_merge.cuh",
    "decode_attention.cu",
)
SUM_BARRIER = "  barrier();\n  float sum = 0;"
LARGEST_BARRIER = "  barrier();\n  u32 largest = 0;"
LOOP = "    copy_wait<kStages - 2>();\n    warp_barrier();\n"
FENCE = "  if (work.parts == 1) return;\n  memory_fence();\n"
COUNT = "  if (thread_id() == 0) *flag = atomic_add(counters + block, 1);\n"

BUGS = {
    # rows
    "norm: sum read before it is written": Bug(
        of=NORM, patch=(ROW, SUM_BARRIER, SUM_BARRIER.replace("barrier();", ";")), in_all=False
    ),
    "norm: peak read before it is written": Bug(
        of=NORM,
        patch=(ROW, LARGEST_BARRIER, LARGEST_BARRIER.replace("barrier();", ";")),
        in_all=False,
    ),
    "norm: peaks over the sums still read": Bug(
        of=NORM, patch=(NORM_FILE, "(u32*)memory + kWarps", "(u32*)memory"), in_all=False
    ),
    "norm: does not wait for the kernel before": Bug(
        of=NORM, patch=(NORM_FILE, "  grid_dependency_wait();\n", "")
    ),
    "norm: stream not stored": Bug(
        of=NORM,
        patch=(NORM_FILE, "if (kDelta != 0 && at < n) store_eight(x", "if (at < 0) store_eight(x"),
    ),
    "norm: a mean of one more": Bug(
        of=NORM, patch=(NORM_FILE, "(float)n + eps", "(float)(n + 1) + eps")
    ),
    "norm: past the row": Bug(
        of=NORM,
        patch=(NORM_FILE, "if (at < n) add_eight", "if (at < n + 8) add_eight"),
        seen=OUTSIDE,
    ),
    "codes: sums of twice the group": Bug(
        of=NORM, patch=(CODES, "mask < kGroup / kEight", "mask < 2 * kGroup / kEight")
    ),
    "codes: rounded before they are scaled": Bug(
        of=NORM, patch=(CODES, "float_to_s8(v[i] * inverse)", "float_to_s8(v[i]) * (s32)inverse")
    ),
    "codes: in another order": Bug(of=NORM, patch=(CODES, "0x5140", "0x5410"), in_all=True),
    "codes: past the row": Bug(of=NORM, patch=(CODES, "if (at >= to.n) return;", ""), seen=OUTSIDE),
    "swiglu: gate and up swapped": Bug(
        of=SWIGLU, patch=("swiglu.cu", "silu(gate[i]) * up[i]", "silu(up[i]) * gate[i]")
    ),
    "swiglu: past the row": Bug(
        of=SWIGLU, patch=("swiglu.cu", "if (at < n) {", "if (at < n + 8) {"), seen=OUTSIDE
    ),
    # argmax
    "argmax: the last of equals": Bug(of=ARGMAX, patch=("argmax.cu", "(u32)~index", "(u32)index")),
    "argmax: -0 below 0": Bug(of=ARGMAX, patch=("argmax.cu", "value + 0.0f", "value")),
    "argmax: NaN is a large number": Bug(
        of=ARGMAX, patch=("argmax.cu", "if (magnitude(value) != magnitude(value)) return ~0u;", "")
    ),
    "argmax: infinity not reported": Bug(
        of=ARGMAX, patch=("argmax.cu", "value >= kOrderedInfinity || ", "")
    ),
    "argmax: parts read before they are written": Bug(
        of=ARGMAX, patch=("argmax.cu", "  barrier();\n", ""), in_all=False
    ),
    "argmax: left as it was": Bug(of=ARGMAX, patch=("argmax.cu", "  best[row] = 0;\n", "")),
    "argmax: the first block answers": Bug(
        of=ARGMAX, patch=("argmax.cu", "(u32)blocks_x() - 1", "0"), in_all=False
    ),
    # rotation and append
    "rope: the other way round": Bug(
        of=APPEND, patch=(CACHE, "low[turn][i] = a * c - b * s;", "low[turn][i] = a * c + b * s;")
    ),
    "rope: the wrong half": Bug(of=APPEND, patch=(CACHE, "b * c + a * s", "b * c + b * s")),
    "rope: neighbours instead of halves": Bug(
        of=APPEND, patch=(CACHE, "const float c = cos[at], s", "const float c = cos[at / 2], s")
    ),
    "rope: turned by the column": Bug(
        of=APPEND, patch=("rope_append.cu", "rotations, column - start", "rotations, column")
    ),
    "rope: turned by the column, fused": Bug(
        of=FULL,
        patch=(
            DECODE,
            "if (kind == 0) head.rotate(work.rotations, work.column - work.start)",
            "if (kind == 0) head.rotate(work.rotations, work.column)",
        ),
    ),
    "append: outside the cache": Bug(
        of=APPEND, patch=(CACHE, " && column < length", ""), seen=EITHER
    ),
    "append: keys for values": Bug(
        of=APPEND, patch=(CACHE, "(s64)kind * max_batch", "(s64)kind * 0")
    ),
    "append: the next column": Bug(
        of=FULL, patch=(DECODE, "work.kv_head, work.column));", "work.kv_head, work.column - 1));")
    ),
    "append: a scale for both kinds": Bug(
        of=INT8, patch=(DECODE, "+ kind * kColumns + place", "+ place")
    ),
    # attention: what is seen
    "mask dropped": Bug(of=FULL, patch=(TILE, "if (g + i / 2 * 8 >= count)", "if (count < 0)")),
    "mask one column too late": Bug(
        of=FULL,
        patch=(DECODE, "work.column + 1 - work.first", "work.column + 2 - work.first"),
    ),
    "starts ignored": Bug(
        of=FULL, patch=(DECODE, "return start + kColumns * tile;", "return kColumns * tile;")
    ),
    "copies past the row": Bug(
        of=FULL,
        patch=(DECODE, "first + column < end, column", "true, column"),
        seen=EITHER,
    ),
    "heads share the wrong keys": Bug(
        of=FULL, patch=(DECODE, "work.kv_head * shared + before", "work.kv_head + before")
    ),
    # attention: the order of events
    "one wait too few": Bug(
        of=FULL, patch=(DECODE, "copy_wait<kStages - 2>", "copy_wait<kStages - 1>"), in_all=False
    ),
    "no barrier of the warp": Bug(
        of=FULL, patch=(DECODE, LOOP, LOOP.replace("    warp_barrier();\n", "")), in_all=False
    ),
    "does not wait for the kernel before": Bug(
        of=FULL, patch=(DECODE, "  if (kFused) grid_dependency_wait();\n", "")
    ),
    "queries read before they are written": Bug(
        of=FULL, patch=(DECODE, "  barrier();\n  Attention", "  Attention"), in_all=False
    ),
    "parts over rings in use": Bug(
        of=FULL,
        patch=(DECODE, "  barrier();\n  float* const shared", "  float* const shared"),
        in_all=False,
    ),
    "parts read before they are written": Bug(
        of=FULL, patch=(DECODE, "  barrier();\n  finish", "  finish"), in_all=False
    ),
    "fence before the count dropped": Bug(
        of=FULL, patch=(DECODE, FENCE, FENCE.replace("  memory_fence();\n", "")), in_all=False
    ),
    "counted before all have published": Bug(
        of=SPLIT, patch=(DECODE, f"  barrier();\n{COUNT}", COUNT), in_all=False, seeds=16
    ),
    "count read before it is written": Bug(
        of=FULL, patch=(DECODE, f"{COUNT}  barrier();\n", COUNT), in_all=False
    ),
    "counter not put back": Bug(
        of=FULL, patch=(DECODE, "  if (thread_id() == 0) counters[block] = 0;\n", "")
    ),
    "a warp skips a barrier": Bug(
        of=FULL,
        patch=(DECODE, "  barrier();\n  finish", "  if (warp_id() > 0) barrier();\n  finish"),
        seen=DIVERGENCE,
    ),
    # attention: arithmetic
    "outputs not rescaled": Bug(of=FULL, patch=(TILE, "        out[step][i] *= factor;\n", "")),
    "sums not rescaled": Bug(of=FULL, patch=(TILE, "      sum[i] *= factor;\n", "")),
    "peaks of a lane alone": Bug(
        of=FULL, patch=(TILE, "risen[i] = larger(risen[i], shuffle_xor(risen[i], mask));", ";")
    ),
    "weights not transposed": Bug(
        of=FULL,
        patch=(
            TILE,
            "transpose_matrix(floats_to_half2(s[0], s[1]))",
            "floats_to_half2(s[0], s[1])",
        ),
    ),
    "values not transposed": Bug(
        of=FULL, patch=(TILE, "load_matrix_x4_transposed", "load_matrix_x4")
    ),
    "keys of the other half": Bug(
        of=FULL, patch=(TILE, "32 * step + lane_id() / 16 * 16", "32 * step")
    ),
    "parts added as they are": Bug(
        of=FULL, patch=(MERGE, "part_peak == risen ? 1.0f", "part_peak <= risen ? 1.0f")
    ),
    "one part left out": Bug(
        of=FULL, patch=(DECODE, "element, kPart, work.parts)", "element, kPart, work.parts - 1)")
    ),
    "int8: bytes unsigned": Bug(of=INT8, patch=(TILE, "word ^ 0x80808080u", "word")),
    "int8: bytes in order": Bug(of=INT8, patch=(TILE, "0x4341", "0x4342")),
    "int8: queries in the order of halfs": Bug(of=INT8, patch=(TILE, "0x5410", "0x7610")),
    "int8: scales of keys left out": Bug(
        of=INT8, patch=(TILE, "scale * scales[g + i / 2 * 8]", "scale")
    ),
    "int8: scales of the other rows": Bug(
        of=INT8, patch=(TILE, "kColumns + g + i / 2 * 8", "kColumns + g")
    ),
    "int8: outputs of even and odd elements swapped": Bug(
        of=INT8, patch=(TILE, "(kBytes ? 2 * g : g)", "(kBytes ? 2 * g + 1 : g)")
    ),
}
SUBJECTS = {
    "norm": NORM,
    "swiglu": SWIGLU,
    "argmax": ARGMAX,
    "attention": FULL,
    "split attention": SPLIT,
    "int8 attention": INT8,
    "append": APPEND,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    variants = [variant_of(subject.plan) for subject in SUBJECTS.values()]
    variants += [variant_of(bug.of.plan, (bug.patch,)) for bug in BUGS.values()]
    return Emulation(tmp_path_factory.mktemp("bugs"), variants)


@pytest.mark.parametrize("name", SUBJECTS)
def test_without_a_bug_all_is_well(program: Emulation, name: str) -> None:
    for schedule in SCHEDULES:
        assert how_it_shows(program, SUBJECTS[name], schedule, ()) == ""


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(program: Emulation, name: str) -> None:
    bug = BUGS[name]
    schedules = [
        replace(schedule, seed=schedule.seed + len(SCHEDULES) * turn)
        for schedule in SCHEDULES
        for turn in range(bug.seeds)
    ]
    caught = [how_it_shows(program, bug.of, schedule, (bug.patch,)) for schedule in schedules]
    assert any(caught)
    assert all(caught) or not bug.in_all, caught
    for text in filter(None, caught):
        assert re.search(bug.seen, text), text


def how_it_shows(
    program: Emulation, subject: Subject, schedule: Schedule, patches: tuple[Patch, ...]
) -> str:
    """What the emulator says, or NUMBERS where results are wrong; empty where all is well."""
    launch = launch_of(subject.plan, subject.arguments(), schedule, patches)
    try:
        [results] = program.run([launch])
        subject.check(results)
    except EmulationError as err:
        return str(err)
    except AssertionError:
        return NUMBERS
    return ""
