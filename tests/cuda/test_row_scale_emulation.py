"""w4a8 where a row of weights has one scale: integers of all of K, emulated in every schedule."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU
from edgebench_kernels.cuda.large_geometry import A8Scales
from edgebench_kernels.formats import Int4Tensor, pack_codes

from .cases import random_tensor
from .emulation import Emulation
from .linears import LinearCase, a8_case
from .planted import (
    OUTSIDE_OR_FREED,
    Bug,
    check_caught,
    check_in_all_schedules,
    check_well,
    program_of,
)

pytestmark = [pytest.mark.native, pytest.mark.slow]


def row_case(m: int, n: int, k: int, epilogue: int = 0, **tuning: int) -> LinearCase:
    """Random weights whose group is K; warps whose multiple is a warp group are Hopper's."""
    is_wgmma = tuning.get("tokens", 0) >= 64 and tuning["warps"] % 4 == 0
    return a8_case(
        m,
        random_tensor(n, k, k, m + n + k),
        epilogue,
        scales=A8Scales.ROW,
        is_wgmma=is_wgmma and "token_warps" not in tuning,
        **tuning,
    )


MMA = {"tokens": 16, "warps": 2, "tiles": 1, "stages": 2}
WGMMA = {"tokens": 64, "warps": 4}
# Rings go round where chunks > stages; 192 and 320 inputs end in half a chunk.
CASES = {
    "mma: one token": row_case(1, 1, 64, FLOAT_OUT, **MMA),
    "mma: half a chunk": row_case(9, 40, 320, **MMA),
    "mma: ring goes round": row_case(33, 64, 640, RESIDUAL, tokens=32, warps=2),
    "mma: split K": row_case(18, 40, 896, RESIDUAL, tokens=32, warps=2, splits=3),
    "mma: swiglu": row_case(40, 48, 256, SWIGLU | BIAS, tokens=64, warps=2),
    "mma: two warps along tokens": row_case(
        130, 40, 192, tokens=128, token_warps=2, warps=4, stages=2
    ),
    "one token": row_case(1, 1, 64, FLOAT_OUT, **WGMMA),
    "half a chunk, two rows of blocks": row_case(65, 80, 192, **WGMMA),
    "ring goes round": row_case(33, 40, 1216, FLOAT_OUT, **WGMMA),
    "two warp groups": row_case(20, 130, 1280, BIAS | RESIDUAL, tokens=64, warps=8),
    "two tiles, swiglu": row_case(40, 144, 640, SWIGLU, tiles=2, stages=5, **WGMMA),
    "clusters of 2": row_case(18, 40, 896, BIAS | RESIDUAL, tokens=64, warps=8, splits=2),
    "clusters of 8, of which some have no chunk": row_case(9, 33, 320, splits=8, **WGMMA),
    "128 tokens": row_case(130, 72, 320, tokens=128, warps=4, tiles=2),
}

RING = row_case(33, 130, 1088, tokens=64, warps=8)
TILES = row_case(33, 100, 1088, tiles=2, stages=4, **WGMMA)
PLAIN = row_case(9, 40, 320, **MMA)
MMA_FILE, FILE, END = "w4a8_gemm.cu", "w4a8_wgmma.cu", "row_scale.cuh"
IN_USE = "numbers|copied without"
ARRIVE = "if constexpr (S::kRowScale) arrive_copied<S::kAhead - 2>(ring.arrivals + next);\n"
BEGINS = """    wait_arrivals(ring.arrivals + slot, parity);
    sums.multiply(ring.memory + slot * S::kStageBytes, [&] {
"""
EXACT = "[eight], a[tile][step], "
ISSUED = "wgmma_commit();\n      wgmma_wait<1>();\n"
BUGS = {
    "arrives while its products read": Bug(
        of=RING, patch=(FILE, f"{BEGINS}      {ARRIVE}", f"    {ARRIVE}{BEGINS}"), seen=IN_USE
    ),
    "one wait too few": Bug(
        of=RING, patch=(FILE, ISSUED, ISSUED.replace("<1>", "<2>")), seen=IN_USE
    ),
    "no last wait": Bug(
        of=TILES, patch=(FILE, "    wgmma_wait<0>();\n    settle<S::kTiles", "    settle<S::kTiles")
    ),
    "no fence": Bug(
        of=RING,
        patch=(FILE, "first, mine);\n      wgmma_fence();\n", "first, mine);\n"),
        seen="no wgmma_fence before it",
        in_all=True,
    ),
    "fragments that are in use": Bug(of=RING, patch=(FILE, "= a[batch % 2]", "= a[0]")),
    "steps of the first batch": Bug(
        of=RING, patch=(FILE, "rows + (first + step) * 2", "rows + step * 2"), in_all=True
    ),
    "scale of the other row": Bug(
        of=RING, patch=(END, "scale[c / 4][c % 4 / 2]", "scale[c / 4][1 - c % 4 / 2]"), in_all=True
    ),
    "scale of the first tile": Bug(
        of=TILES, patch=(END, "(s64)(of.tile + tile) *", "(s64)of.tile *"), in_all=True
    ),
    "scale of the other token": Bug(
        of=PLAIN, patch=(END, "% 4 * 2 + i % 2;", "% 4 * 2 + 1 - i % 2;"), in_all=True
    ),
    "scales of rows that are not there": Bug(
        of=PLAIN,
        patch=(END, "is_there ? load", "is_there || true ? load"),
        seen=OUTSIDE_OR_FREED,
        in_all=True,
    ),
    "scales of tokens that are not there": Bug(
        of=PLAIN,
        patch=(END, "token < of.m ? load", "token < of.m || true ? load"),
        seen=OUTSIDE_OR_FREED,
        in_all=True,
    ),
    "mma: tokens of the first warp": Bug(
        of=CASES["mma: two warps along tokens"],
        patch=(MMA_FILE, "S::kTokens + warp_id() % S::kTokenWarps * (8", "S::kTokens + 0 * (8"),
        in_all=True,
    ),
    "mma: rows of the first warp": Bug(
        of=PLAIN,
        patch=(MMA_FILE, "S::kTileRows + warp_id() / S::kTokenWarps *", "S::kTileRows + 0 *"),
        in_all=True,
    ),
    "mma: one step's tokens for all": Bug(
        of=PLAIN,
        patch=(MMA_FILE, f"{EXACT}x[step][0], x[step][1]", f"{EXACT}x[0][0], x[0][1]"),
        in_all=True,
    ),
}


def largest_case(kernel: dict[str, int], code: int, zero: int, sign: int) -> LinearCase:
    """Every product has the largest magnitude, all but one the same sign."""
    n, k = 17, LARGEST_K
    codes = np.full((n, k), code, np.uint8)
    codes[:, 0] = zero
    tensor = Int4Tensor(
        qweight=pack_codes(codes),
        scale=np.ones((n, 1), np.float16),
        zero=np.full((n, 1), zero, np.uint8),
        group=k,
    )
    x = np.full((2, k), 127 * sign, np.float16)
    is_wgmma = kernel is WGMMA
    return a8_case(2, tensor, FLOAT_OUT, x=x, scales=A8Scales.ROW, is_wgmma=is_wgmma, **kernel)


LARGEST_K = 8960
LARGEST = {
    f"{name} {code} - {zero}, {sign}": (
        largest_case(kernel, code, zero, sign),
        (code - zero) * sign,
    )
    for name, kernel in (("mma", MMA), ("wgmma", WGMMA))
    for code, zero, sign in ((15, 0, 1), (0, 15, 1), (15, 0, -1))
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [case.plan for case in (*CASES.values(), *(case for case, _ in LARGEST.values()))]
    return program_of(tmp_path_factory.mktemp("row_scale"), plans, BUGS.values())


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_truth_in_every_schedule(program: Emulation, name: str) -> None:
    check_in_all_schedules(program, CASES[name])


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(program: Emulation, name: str) -> None:
    check_caught(program, BUGS[name])


def test_without_a_bug_all_is_well(program: Emulation) -> None:
    check_well(program, BUGS.values())


@pytest.mark.parametrize("name", LARGEST)
def test_integers_beyond_a_floats_are_exact(program: Emulation, name: str) -> None:
    """Sums in fp32 would round on the way."""
    case, product = LARGEST[name]
    assert LARGEST_K * 127 * 15 > 2**24
    [y] = check_in_all_schedules(program, case)
    assert (y == np.float32((LARGEST_K - 1) * product * 127)).all()
