"""`w4a16_cluster`, emulated in every schedule against float64, and with planted bugs."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU

from .cases import random_tensor
from .emulation import SCHEDULES, Emulation
from .linears import cluster_case
from .planted import Bug, check_caught, check_in_all_schedules, check_well, program_of

pytestmark = [pytest.mark.native, pytest.mark.slow]

SMALL = {"warps": 2}
# Rings go round where chunks > stages; 192 and 320 inputs end in half a chunk.
CASES = {
    "one token": cluster_case(1, random_tensor(1, 64, 64, 0), blocks=1, **SMALL),
    "group 32": cluster_case(8, random_tensor(17, 128, 32, 1), FLOAT_OUT, blocks=2, **SMALL),
    "group K": cluster_case(13, random_tensor(64, 512, 512, 2), BIAS, blocks=4, **SMALL),
    "half a chunk": cluster_case(9, random_tensor(80, 192, 64, 3), blocks=2, stages=2, **SMALL),
    "padded K": cluster_case(3, random_tensor(33, 96, 96, 4), RESIDUAL, blocks=1, **SMALL),
    "ring goes round, rows after rows": cluster_case(
        16, random_tensor(200, 1088, 64, 5), BIAS | RESIDUAL, blocks=2, clusters=2, **SMALL
    ),
    "two tiles, rows after rows": cluster_case(
        11, random_tensor(200, 640, 128, 6), FLOAT_OUT, tiles=2, blocks=4, clusters=1, **SMALL
    ),
    "some of 8 blocks have no chunk": cluster_case(
        12, random_tensor(70, 704, 64, 7), RESIDUAL, clusters=1, stages=3, **SMALL
    ),
    "8 blocks, swiglu": cluster_case(
        16, random_tensor(144, 1024, 128, 8), SWIGLU | BIAS, clusters=2, **SMALL
    ),
    "32 tokens, swiglu": cluster_case(
        20, random_tensor(80, 320, 32, 9), SWIGLU | RESIDUAL, blocks=2, **SMALL
    ),
    "64 tokens, two tiles": cluster_case(
        50, random_tensor(100, 512, 64, 10), BIAS, tiles=2, blocks=4, **SMALL
    ),
    "two passes, rows after rows": cluster_case(
        15,
        random_tensor(100, 1088, 64, 12),
        RESIDUAL,
        blocks=2,
        passes=2,
        clusters=2,
        places=1,
        **SMALL,
    ),
    "three passes, of which some have no chunk": cluster_case(
        9, random_tensor(40, 832, 64, 13), blocks=4, passes=3, tiles=2, **SMALL
    ),
    "eight warps": cluster_case(16, random_tensor(300, 256, 128, 11), blocks=2, warps=8),
}
RING = cluster_case(
    10, random_tensor(150, 1088, 64, 20), RESIDUAL, blocks=2, clusters=1, stages=3, **SMALL
)
PASSES = cluster_case(
    10, random_tensor(70, 1088, 64, 22), blocks=2, passes=2, clusters=1, stages=2, **SMALL
)
ALONE = cluster_case(10, random_tensor(150, 704, 32, 21), blocks=1, clusters=1, stages=2, **SMALL)
ONE_PLACE = cluster_case(
    10, random_tensor(150, 704, 64, 23), blocks=4, clusters=1, places=1, **SMALL
)
FILE = "w4a16_cluster.cu"
BUGS = {
    "tokens before they are there": Bug(
        of=RING, patch=(FILE, "  grid_dependency_wait();\n", ""), in_all=True
    ),
    "tokens not waited for": Bug(
        of=RING, patch=(FILE, "  copy_wait<0>();\n  barrier();\n", "  barrier();\n")
    ),
    "tokens of other warps": Bug(
        of=RING, patch=(FILE, "  copy_wait<0>();\n  barrier();\n", "  copy_wait<0>();\n")
    ),
    "tokens of the next pass too early": Bug(
        of=PASSES, patch=(FILE, "        barrier();  // the tokens", "        // the tokens")
    ),
    "tokens of another pass": Bug(
        of=PASSES,
        patch=(FILE, "return {begin + first,", "return {begin,"),
        in_all=True,
    ),
    "totals of other warps": Bug(
        of=RING,
        patch=(FILE, "totals, pass.count);\n  barrier();\n", "totals, pass.count);\n"),
    ),
    "one wait too few": Bug(
        of=RING, patch=(FILE, "copy_wait<S::kStages - 2>", "copy_wait<S::kStages - 1>")
    ),
    "no barrier of the warp": Bug(of=RING, patch=(FILE, "        warp_barrier();\n", "")),
    "into the slot that is read": Bug(
        of=RING, patch=(FILE, "reader.copy(ring + next);", "reader.copy(ring + here + 0 * next);")
    ),
    "the next rows begin at the wrong chunk": Bug(
        of=RING, patch=(FILE, " - chunks * S::kTileBytes;", ";"), seen="numbers|AddressSanitizer"
    ),
    "sums before siblings have them": Bug(
        of=RING, patch=(FILE, "    cluster_barrier();\n", "    barrier();\n")
    ),
    "sums in one place": Bug(
        of=RING, patch=(FILE, "(turn - begin) % S::kPlaces", "(turn - begin) % 1")
    ),
    "ends while others read": Bug(
        of=RING,
        patch=(FILE, "  if constexpr (S::kBlocks > 1) cluster_barrier_relaxed();", "  //"),
        seen="a sibling that has ended|numbers|AddressSanitizer",
    ),
    "sums without a barrier": Bug(
        of=ALONE,
        patch=(FILE, "kBlocks == 1) {\n    barrier();\n", "kBlocks == 1) {\n"),
    ),
    "the one place is still read": Bug(
        of=ONE_PLACE, patch=(FILE, "kPlaces == 1 && turn > begin", "kPlaces == 0 && turn > begin")
    ),
    "zero point of the other row": Bug(
        of=ALONE,
        patch=(FILE, "(c < 2 ? low_zero : high_zero)", "(c < 4 ? low_zero : high_zero)"),
        in_all=True,
    ),
    "total of the other token": Bug(
        of=ALONE, patch=(FILE, "total[c % 2]", "total[1 - c % 2]"), in_all=True
    ),
    "one chain of sums is lost": Bug(
        of=ALONE,
        patch=(FILE, "part += parts[tile][1][eight][c];", "part += 0;"),
        in_all=True,
    ),
    "tokens past K": Bug(
        of=CASES["half a chunk"],
        patch=(FILE, "from + input, input < k);", "from + input);"),
        seen="numbers|AddressSanitizer",
    ),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [case.plan for case in CASES.values()]
    return program_of(tmp_path_factory.mktemp("cluster"), plans, BUGS.values())


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_truth_in_every_schedule(program: Emulation, name: str) -> None:
    check_in_all_schedules(program, CASES[name])


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(program: Emulation, name: str) -> None:
    check_caught(program, BUGS[name])


def test_without_a_bug_all_is_well(program: Emulation) -> None:
    check_well(program, BUGS.values())


def test_nan_stays_in_its_token(program: Emulation) -> None:
    of = CASES["32 tokens, swiglu"]
    x = of.case.x.copy()
    x[5, 7] = np.nan
    [arrays] = program.run([of.with_activations(x).launch(SCHEDULES[0])])
    y = of.outputs(arrays)
    assert np.isnan(y[5]).all()
    assert np.isfinite(np.delete(y, 5, axis=0)).all()
