"""The emulation catches bugs in decode attention: each planted, each must show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from numpy.typing import NDArray

from .attention import (
    Case,
    arguments_of,
    case,
    check_append,
    check_attention,
    check_untouched,
    inputs_of,
)
from .emulation import SCHEDULES, Emulation
from .planted import EITHER, Bug, check_caught, check_well, program_of
from .step import StepCase

pytestmark = [pytest.mark.native, pytest.mark.slow]

DIVERGENCE = r"\[emulator\] divergence: one barrier from decode_attention.cu:\d+"


def _attention(one: Case) -> StepCase:
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

    return StepCase(
        plan=one.plan(), arguments=lambda: arguments_of(one, inputs_of(one)), truth=checked
    )


# Rings that go round, a ragged start, three heads to a key, a cache that ends with the last tile.
FULL = _attention(case(6, 2, 32, ((3, 130), (0, 49)), splits=2))
INT8 = _attention(case(6, 2, 32, ((3, 130), (0, 49)), splits=2, is_int8=True))
# One row of eight heads, which two warps publish, in two blocks, which live at the same time.
SPLIT = _attention(case(8, 1, 32, ((0, 63),), splits=2))

TILE, MERGE, DECODE = "attention_tile.cuh", "attention_merge.cuh", "decode_attention.cu"
LOOP = "    copy_wait<kStages - 2>();\n    warp_barrier();\n"
FENCE = "  if (work.parts == 1) return;\n  memory_fence();\n"
COUNT = "  if (thread_id() == 0) *flag = atomic_add(counters + block, 1);\n"

MANY = tuple(
    replace(schedule, seed=schedule.seed + len(SCHEDULES) * turn)
    for schedule in SCHEDULES
    for turn in range(16)
)

BUGS = {
    "rope: turned by the column, fused": Bug(
        of=FULL,
        patch=(
            DECODE,
            "if (kind == 0) head.rotate(work.rotations, work.column - work.start)",
            "if (kind == 0) head.rotate(work.rotations, work.column)",
        ),
        in_all=True,
    ),
    "append: the next column": Bug(
        of=FULL,
        patch=(DECODE, "work.kv_head, work.column));", "work.kv_head, work.column - 1));"),
        in_all=True,
    ),
    "append: a scale for both kinds": Bug(
        of=INT8, patch=(DECODE, "+ kind * kColumns + place", "+ place"), in_all=True
    ),
    # what is seen
    "mask dropped": Bug(
        of=FULL, patch=(TILE, "if (g + i / 2 * 8 >= count)", "if (count < 0)"), in_all=True
    ),
    "mask one column too late": Bug(
        of=FULL,
        patch=(DECODE, "work.column + 1 - work.first", "work.column + 2 - work.first"),
        in_all=True,
    ),
    "starts ignored": Bug(
        of=FULL,
        patch=(DECODE, "return start + kColumns * tile;", "return kColumns * tile;"),
        in_all=True,
    ),
    "copies past the row": Bug(
        of=FULL,
        patch=(DECODE, "first + column < end, column", "true, column"),
        seen=EITHER,
        in_all=True,
    ),
    "heads share the wrong keys": Bug(
        of=FULL,
        patch=(DECODE, "work.kv_head * shared + before", "work.kv_head + before"),
        in_all=True,
    ),
    # the order of events
    "one wait too few": Bug(
        of=FULL, patch=(DECODE, "copy_wait<kStages - 2>", "copy_wait<kStages - 1>")
    ),
    "no barrier of the warp": Bug(
        of=FULL, patch=(DECODE, LOOP, LOOP.replace("    warp_barrier();\n", ""))
    ),
    "does not wait for the kernel before": Bug(
        of=FULL, patch=(DECODE, "  if (kFused) grid_dependency_wait();\n", ""), in_all=True
    ),
    "queries read before they are written": Bug(
        of=FULL, patch=(DECODE, "  barrier();\n  Attention", "  Attention")
    ),
    "parts over rings in use": Bug(
        of=FULL, patch=(DECODE, "  barrier();\n  float* const shared", "  float* const shared")
    ),
    "parts read before they are written": Bug(
        of=FULL, patch=(DECODE, "  barrier();\n  finish", "  finish")
    ),
    "fence before the count dropped": Bug(
        of=FULL, patch=(DECODE, FENCE, FENCE.replace("  memory_fence();\n", ""))
    ),
    "counted before all have published": Bug(
        of=SPLIT, patch=(DECODE, f"  barrier();\n{COUNT}", COUNT), schedules=MANY
    ),
    "count read before it is written": Bug(
        of=FULL, patch=(DECODE, f"{COUNT}  barrier();\n", COUNT)
    ),
    "counter not put back": Bug(
        of=FULL, patch=(DECODE, "  if (thread_id() == 0) counters[block] = 0;\n", ""), in_all=True
    ),
    "a warp skips a barrier": Bug(
        of=FULL,
        patch=(DECODE, "  barrier();\n  finish", "  if (warp_id() > 0) barrier();\n  finish"),
        seen=DIVERGENCE,
        in_all=True,
    ),
    # arithmetic
    "outputs not rescaled": Bug(
        of=FULL, patch=(TILE, "        out[step][i] *= factor;\n", ""), in_all=True
    ),
    "sums not rescaled": Bug(of=FULL, patch=(TILE, "      sum[i] *= factor;\n", ""), in_all=True),
    "peaks of a lane alone": Bug(
        of=FULL,
        patch=(TILE, "risen[i] = larger(risen[i], shuffle_xor(risen[i], mask));", ";"),
        in_all=True,
    ),
    "weights not transposed": Bug(
        of=FULL,
        patch=(
            TILE,
            "transpose_matrix(floats_to_half2(s[0], s[1]))",
            "floats_to_half2(s[0], s[1])",
        ),
        in_all=True,
    ),
    "values not transposed": Bug(
        of=FULL, patch=(TILE, "load_matrix_x4_transposed", "load_matrix_x4"), in_all=True
    ),
    "keys of the other half": Bug(
        of=FULL, patch=(TILE, "32 * step + lane_id() / 16 * 16", "32 * step"), in_all=True
    ),
    "parts added as they are": Bug(
        of=FULL,
        patch=(MERGE, "part_peak == risen ? 1.0f", "part_peak <= risen ? 1.0f"),
        in_all=True,
    ),
    "one part left out": Bug(
        of=FULL,
        patch=(DECODE, "element, kPart, work.parts)", "element, kPart, work.parts - 1)"),
        in_all=True,
    ),
    "int8: bytes unsigned": Bug(of=INT8, patch=(TILE, "word ^ 0x80808080u", "word"), in_all=True),
    "int8: bytes in order": Bug(of=INT8, patch=(TILE, "0x4341", "0x4342"), in_all=True),
    "int8: queries in the order of halfs": Bug(
        of=INT8, patch=(TILE, "0x5410", "0x7610"), in_all=True
    ),
    "int8: scales of keys left out": Bug(
        of=INT8, patch=(TILE, "scale * scales[g + i / 2 * 8]", "scale"), in_all=True
    ),
    "int8: scales of the other rows": Bug(
        of=INT8, patch=(TILE, "kColumns + g + i / 2 * 8", "kColumns + g"), in_all=True
    ),
    "int8: outputs of even and odd elements swapped": Bug(
        of=INT8, patch=(TILE, "(kBytes ? 2 * g : g)", "(kBytes ? 2 * g + 1 : g)"), in_all=True
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
