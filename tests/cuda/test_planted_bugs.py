"""The emulation catches bugs: each is planted in a kernel's text, and must not get through.

They show as a message of the emulator or of AddressSanitizer, or as wrong numbers; a race in some
schedule, a wrong fragment in all.
"""

from __future__ import annotations

import pytest

from edgebench_kernels.cuda.geometry import RESIDUAL

from .cases import random_tensor
from .emulation import Emulation
from .linears import gemm_case, gemv_case
from .planted import OUTSIDE, Bug, check_caught, check_well, program_of

pytestmark = [pytest.mark.native, pytest.mark.slow]

DIVERGENCE = r"\[emulator\] divergence: lane 0 at w4a16_gemv.cu:\d+"
MISSED = r"\[emulator\] (deadlock: of the threads|divergence: one barrier from)"

# Rings that go round twice, half a chunk at the end, rows and tokens that are missing.
GEMV = gemv_case(
    3, random_tensor(17, 1088, 64, 50), RESIDUAL, warps=4, row_warps=2, stages=3, blocks=1
)
GEMM = gemm_case(
    9, random_tensor(17, 1088, 64, 51), RESIDUAL, warps=2, stages=3, splits=2, tokens=16
)
GEMV_TURNS = gemv_case(1, random_tensor(97, 256, 128, 54), warps=2, blocks=1)
GEMV_DEPENDENT = gemv_case(2, random_tensor(17, 640, 128, 52), RESIDUAL, warps=2, is_dependent=True)
GEMM_DEPENDENT = gemm_case(9, random_tensor(17, 640, 128, 53), warps=2, is_dependent=True)


GEMV_FILE, GEMM_FILE, TILE_FILE = "w4a16_gemv.cu", "w4a16_gemm.cu", "w4_tile.cuh"
GEMV_LOOP = "      copy_wait<S::kStages - 2>();\n      S::team_barrier();\n"
GEMV_READ = "    barrier();  // the parts of the rows before are read\n"
GEMV_SHARE = (
    "    share_sums<S>(parts + S::team() * S::kTokens * S::kColumns, sums);\n    barrier();\n"
)
GEMV_ADDED = "      total[column] = sum;\n    }\n    warp_barrier();\n"
GEMM_LOOP = "    copy_wait<S::kStages - 2>();\n    barrier();\n"
GEMM_COPIES = "    reader.copy_weights(next);\n    reader.copy_x(next);\n"

WAIT = "    grid_dependency_wait();\n"
UNROLL = "#pragma unroll\n"
GEMV_X = (
    f"{UNROLL}    for (int stage = 0; stage < S::kStages - 1; ++stage) {{\n"
    "      late.copy_tokens(ring + stage * S::kStageBytes);\n      late.advance();\n    }\n"
)
GEMM_X = (
    f"{UNROLL}    for (int stage = 0; stage < S::kStages - 1; ++stage)\n"
    "      reader.copy_x(memory + stage * S::kStageBytes);\n"
)

BUGS = {
    # cp.async
    "gemv: one wait too few": Bug(
        of=GEMV, patch=(GEMV_FILE, "copy_wait<S::kStages - 2>", "copy_wait<S::kStages - 1>")
    ),
    "gemm: one wait too few": Bug(
        of=GEMM, patch=(GEMM_FILE, "copy_wait<S::kStages - 2>", "copy_wait<S::kStages - 1>")
    ),
    "gemm: no commit": Bug(of=GEMM, patch=(GEMM_FILE, "    copy_commit();\n", "")),
    # barriers
    "gemv: no barrier of the team": Bug(
        of=GEMV, patch=(GEMV_FILE, GEMV_LOOP, GEMV_LOOP.replace("      S::team_barrier();\n", ""))
    ),
    "gemv: a barrier of the warp for the team": Bug(
        of=GEMV, patch=(GEMV_FILE, GEMV_LOOP, GEMV_LOOP.replace("S::team_barrier", "warp_barrier"))
    ),
    "gemv: parts written before those of other rows are read": Bug(
        of=GEMV_TURNS, patch=(GEMV_FILE, GEMV_READ, "")
    ),
    "gemv: parts read before written": Bug(
        of=GEMV, patch=(GEMV_FILE, GEMV_SHARE, GEMV_SHARE.replace("    barrier();\n", ""))
    ),
    "gemv: sums stored before added": Bug(
        of=GEMV, patch=(GEMV_FILE, GEMV_ADDED, GEMV_ADDED.replace("    warp_barrier();\n", ""))
    ),
    "gemm: no barrier": Bug(
        of=GEMM, patch=(GEMM_FILE, GEMM_LOOP, GEMM_LOOP.replace("    barrier();\n", ""))
    ),
    "gemm: write after read, copies before the barrier": Bug(
        of=GEMM,
        patch=(
            GEMM_FILE,
            f"{GEMM_LOOP}    u8* const next = memory + (slot == 0 ? S::kStages - 1 : slot - 1)"
            f" * S::kStageBytes;\n{GEMM_COPIES}",
            "    u8* const next = memory + (slot == 0 ? S::kStages - 1 : slot - 1)"
            f" * S::kStageBytes;\n{GEMM_COPIES}{GEMM_LOOP.replace('- 2', '- 1')}",
        ),
    ),
    "gemm: a warp skips a barrier": Bug(
        of=GEMM,
        patch=(GEMM_FILE, GEMM_LOOP, GEMM_LOOP.replace("barrier()", "if (warp_id()) barrier()")),
        seen=MISSED,
        in_all=True,
    ),
    "gemv: half a warp loads fragments": Bug(
        of=GEMV,
        patch=(
            GEMV_FILE,
            "load_matrix_x4(x[eight], ",
            "if (lane < 16) load_matrix_x4(x[eight], ",
        ),
        seen=DIVERGENCE,
        in_all=True,
    ),
    # fragments
    "tile: a[1] and a[2] swapped": Bug(
        of=GEMM,
        patch=(TILE_FILE, "  a[2] = half2_sub", "  a[2] = a[1], a[1] = half2_sub"),
        in_all=True,
    ),
    "tile: raised, halves of the word swapped": Bug(
        of=GEMV,
        patch=(TILE_FILE, "up = word << 2, down = word >> 6", "up = word >> 6, down = word << 2"),
        in_all=True,
    ),
    "gemv: what was raised comes off the other row": Bug(
        of=GEMV,
        patch=(GEMV_FILE, "(c < 2 ? low_zero : high_zero)", "(c < 2 ? high_zero : low_zero)"),
        in_all=True,
    ),
    "tile: upper half of the word shifted by 4": Bug(
        of=GEMM, patch=(TILE_FILE, "word >> 8", "word >> 4"), in_all=True
    ),
    "tile: zero points of the other row": Bug(
        of=GEMM, patch=(TILE_FILE, "0xd4d46464, 0x4040", "0xd4d46464, 0x4141"), in_all=True
    ),
    "gemv: scales of the other row": Bug(
        of=GEMV, patch=(GEMV_FILE, "low = low_half(scales)", "low = high_half(scales)"), in_all=True
    ),
    "gemv: fragments of x swapped": Bug(
        of=GEMV,
        patch=(GEMV_FILE, "a, x[eight][2 * step],", "a, x[eight][2 - 2 * step],"),
        in_all=True,
    ),
    "gemm: fragments of x of the other step": Bug(
        of=GEMM, patch=(GEMM_FILE, "[tile][0], x[0], x[1]", "[tile][0], x[2], x[3]"), in_all=True
    ),
    # predicates
    "gemv: tokens that are not there": Bug(
        of=GEMV, patch=(GEMV_FILE, "rows > 0 && i < tokens", "rows > 0"), seen=OUTSIDE, in_all=True
    ),
    "gemm: tokens that are not there": Bug(
        of=GEMM, patch=(GEMM_FILE, " && i < tokens", ""), seen=OUTSIDE, in_all=True
    ),
    "gemv: inputs past the row": Bug(
        of=GEMV, patch=(GEMV_FILE, "x + i * k, inputs_left > 0,", "x + i * k, true,"), seen=OUTSIDE
    ),
    "gemv: rows of tiles that are not there": Bug(
        of=GEMV, patch=(GEMV_FILE, "first + tile < rows);", "true);"), seen=OUTSIDE
    ),
    "tile: weights past the row": Bug(
        of=GEMV,
        patch=(TILE_FILE, "at + lane_at < bytes_left", "at < bytes_left"),
        seen=OUTSIDE,
        in_all=True,
    ),
    "gemm: rows of tiles that are not there": Bug(
        of=GEMM, patch=(GEMM_FILE, " && tile < rows", ""), seen=OUTSIDE, in_all=True
    ),
    "epilogue: outputs past the row": Bug(
        of=GEMV,
        patch=("epilogue.cuh", "if (i < count) y[i] = float_to", "y[i] = float_to"),
        seen=OUTSIDE,
        in_all=True,
    ),
    "epilogue: tokens that are not there": Bug(
        of=GEMM, patch=("epilogue.cuh", "token >= out.m || ", ""), seen=OUTSIDE, in_all=True
    ),
    # the kernel before
    "gemv: x before the kernel before is done": Bug(
        of=GEMV_DEPENDENT, patch=(GEMV_FILE, WAIT + GEMV_X, GEMV_X + WAIT)
    ),
    "gemm: x before the kernel before is done": Bug(
        of=GEMM_DEPENDENT, patch=(GEMM_FILE, WAIT + GEMM_X, GEMM_X + WAIT)
    ),
    "gemm: never waits": Bug(of=GEMM_DEPENDENT, patch=(GEMM_FILE, WAIT, ""), in_all=True),
    # split K
    "split: counted before written": Bug(
        of=GEMM, patch=("split_k.cuh", "counter, 0, memory) == 0", "counter, 1, memory) == 0")
    ),
    "split: no fence": Bug(of=GEMM, patch=("split_k.cuh", "  }\n  memory_fence();\n}", "  }\n}")),
    "split: own sums for the sibling's": Bug(
        of=GEMM, patch=("split_k.cuh", "sums + sibling * part", "sums + mine * part"), in_all=True
    ),
    "split: counter not put back": Bug(
        of=GEMM,
        patch=("split_k.cuh", "    if (thread_id() == 0) *counter = 0;\n", ""),
        in_all=True,
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
