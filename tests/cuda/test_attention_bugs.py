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
from .planted import EITHER, Bug, Subject, check_caught, how_it_shows
from .step import variant_of

pytestmark = [pytest.mark.native, pytest.mark.slow]

DIVERGENCE = r"\[emulator\] divergence: one barrier from decode_attention.cu:\d+"


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


# Rings that go round, a ragged start, three heads to a key, a cache that ends with the last tile.
FULL = _attention(case(6, 2, 32, ((3, 130), (0, 49)), splits=2))
INT8 = _attention(case(6, 2, 32, ((3, 130), (0, 49)), splits=2, is_int8=True))
# One row of eight heads, which two warps publish, in two blocks, which live at the same time.
SPLIT = _attention(case(8, 1, 32, ((0, 63),), splits=2))

TILE, MERGE, DECODE = "attention_tile.cuh", "attention_merge.cuh", "decode_attention.cu"
LOOP = "    copy_wait<kStages - 2>();\n    warp_barrier();\n"
FENCE = "  if (work.parts == 1) return;\n  memory_fence();\n"
COUNT = "  if (thread_id() == 0) *flag = atomic_add(counters + block, 1);\n"

BUGS = {
    "rope: turned by the column, fused": Bug(
        of=FULL,
        patch=(
            DECODE,
            "if (kind == 0) head.rotate(work.rotations, work.column - work.start)",
            "if (kind == 0) head.rotate(work.rotations, work.column)",
        ),
    ),
    "append: the next column": Bug(
        of=FULL, patch=(DECODE, "work.kv_head, work.column));", "work.kv_head, work.column - 1));")
    ),
    "append: a scale for both kinds": Bug(
        of=INT8, patch=(DECODE, "+ kind * kColumns + place", "+ place")
    ),
    # what is seen
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
    # the order of events
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
    # arithmetic
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
SUBJECTS = {"fp16": FULL, "int8": INT8, "split": SPLIT}


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
    check_caught(program, BUGS[name])
