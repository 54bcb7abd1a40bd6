"""The products of Hopper's warp groups, emulated in every schedule against float64."""

from __future__ import annotations

import pytest

from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU
from edgebench_kernels.cuda.large_geometry import A8Scales

from .cases import random_tensor
from .emulation import Emulation
from .linears import a8_case, wgmma_case
from .planted import (
    OUTSIDE_OR_FREED,
    Bug,
    check_caught,
    check_in_all_schedules,
    check_well,
    program_of,
)

pytestmark = [pytest.mark.native, pytest.mark.slow]

SMALL = {"tokens": 64, "warps": 4}
# Rings go round where chunks > stages; 192 and 320 inputs end in half a chunk.
A16 = {
    "one token": wgmma_case(1, random_tensor(1, 64, 64, 0), **SMALL),
    "group 32": wgmma_case(9, random_tensor(17, 128, 32, 1), FLOAT_OUT, **SMALL),
    "half a chunk, two rows of blocks": wgmma_case(65, random_tensor(80, 192, 64, 2), **SMALL),
    "padded K": wgmma_case(3, random_tensor(17, 96, 96, 3), **SMALL),
    "ring goes round": wgmma_case(33, random_tensor(40, 832, 64, 4), **SMALL),
    "group K, two warp groups": wgmma_case(
        20, random_tensor(130, 640, 640, 5), BIAS | RESIDUAL, tokens=64, warps=8
    ),
    "clusters of 2": wgmma_case(
        18, random_tensor(40, 896, 128, 6), BIAS | RESIDUAL, tokens=64, warps=8, splits=2
    ),
    "clusters of 4, two rows of blocks, swiglu": wgmma_case(
        67, random_tensor(144, 640, 64, 10), SWIGLU | BIAS, tiles=2, splits=4, **SMALL
    ),
    "clusters of 8, of which some have no chunk": wgmma_case(
        37, random_tensor(33, 704, 64, 11), RESIDUAL | FLOAT_OUT, splits=8, **SMALL
    ),
    "clusters of 8, swiglu": wgmma_case(
        64, random_tensor(40, 1024, 128, 12), SWIGLU | RESIDUAL, splits=8, **SMALL
    ),
    "two tiles, swiglu": wgmma_case(
        40, random_tensor(144, 512, 128, 7), SWIGLU, tokens=64, warps=4, tiles=2, stages=3
    ),
    "four warp groups, clusters of 2": wgmma_case(
        50, random_tensor(260, 512, 128, 13), BIAS, tokens=64, warps=16, splits=2
    ),
    "128 tokens": wgmma_case(130, random_tensor(40, 256, 64, 8), tokens=128, warps=4),
    "256 tokens": wgmma_case(200, random_tensor(24, 128, 128, 9), tokens=256, warps=4),
    "16 tokens": wgmma_case(9, random_tensor(40, 320, 64, 14), tokens=16, warps=4),
    "32 tokens, two warp groups": wgmma_case(
        33, random_tensor(130, 256, 128, 15), BIAS | RESIDUAL, tokens=32, warps=8
    ),
    "batches of 4": wgmma_case(
        33, random_tensor(40, 832, 64, 16), FLOAT_OUT, batch=4, batches=2, tiles=2, **SMALL
    ),
    "batches of 2, groups of 32": wgmma_case(
        33, random_tensor(17, 320, 32, 17), batch=2, batches=4, **SMALL
    ),
}
MOVED = {"tokens": 128, "tiles": 2, "warps": 8, "producers": 4, "batch": 2, "batches": 4}
PRODUCERS = {
    "producer": wgmma_case(9, random_tensor(17, 128, 32, 50), FLOAT_OUT, producers=1, **SMALL),
    "producer, one chunk": wgmma_case(1, random_tensor(1, 64, 64, 51), producers=1, **SMALL),
    "two producers, ring goes round": wgmma_case(
        33, random_tensor(40, 832, 64, 52), producers=2, stages=3, batch=4, batches=2, **SMALL
    ),
    "four producers, two warp groups": wgmma_case(
        65, random_tensor(130, 640, 640, 53), BIAS | RESIDUAL, tokens=64, producers=4
    ),
    "producers, clusters of 4, swiglu": wgmma_case(
        67, random_tensor(144, 1152, 64, 54), SWIGLU | BIAS, tiles=2, splits=4, producers=2, **SMALL
    ),
    "producers, clusters of 8, of which some have no chunk": wgmma_case(
        13, random_tensor(33, 704, 64, 55), RESIDUAL, tokens=16, warps=4, splits=8, producers=4
    ),
    "producers, 16 tokens, batches of 4": wgmma_case(
        16, random_tensor(264, 1024, 128, 56), tokens=16, producers=2, tiles=2, batch=4, batches=4
    ),
    "producers that give registers away": wgmma_case(130, random_tensor(40, 640, 128, 57), **MOVED),
}
A8_SMALL = {"is_wgmma": True, **SMALL}
A8 = {
    "a8: one token": a8_case(1, random_tensor(1, 64, 64, 20), **A8_SMALL),
    "a8: group 32": a8_case(9, random_tensor(17, 128, 32, 21), FLOAT_OUT, **A8_SMALL),
    "a8: half a chunk, two rows of blocks": a8_case(65, random_tensor(80, 192, 64, 22), **A8_SMALL),
    "a8: ring goes round": a8_case(33, random_tensor(40, 1216, 64, 23), **A8_SMALL),
    "a8: group K, two warp groups": a8_case(
        20, random_tensor(130, 1280, 1280, 24), BIAS | RESIDUAL, is_wgmma=True, tokens=64, warps=8
    ),
    "a8: clusters of 2": a8_case(
        18, random_tensor(40, 896, 128, 25), BIAS | RESIDUAL, is_wgmma=True, tokens=64, splits=2
    ),
    "a8: clusters of 4, two rows of blocks": a8_case(
        67, random_tensor(80, 832, 64, 28), FLOAT_OUT, splits=4, **A8_SMALL
    ),
    "a8: clusters of 8, of which some have no chunk": a8_case(
        9, random_tensor(33, 320, 64, 29), RESIDUAL, scales=A8Scales.TOKEN, splits=8, **A8_SMALL
    ),
    "a8: four warp groups": a8_case(
        17, random_tensor(260, 256, 64, 30), is_wgmma=True, tokens=64, warps=16
    ),
    "a8: two tiles, swiglu": a8_case(
        40, random_tensor(144, 640, 128, 26), SWIGLU, tiles=2, stages=5, **A8_SMALL
    ),
    "a8: tokens' scales, 128 tokens": a8_case(
        130,
        random_tensor(33, 320, 64, 27),
        is_wgmma=True,
        scales=A8Scales.TOKEN,
        tokens=128,
        warps=4,
    ),
}
CASES = A16 | PRODUCERS | A8

RING = wgmma_case(33, random_tensor(17, 1088, 64, 40), **SMALL)
GROUPS = wgmma_case(33, random_tensor(17, 1088, 64, 40), tokens=64, warps=8)
A8_RING = a8_case(33, random_tensor(17, 1088, 64, 41), is_wgmma=True, tokens=64, warps=8)
CLUSTER = wgmma_case(33, random_tensor(40, 1088, 64, 42), RESIDUAL, splits=4, **SMALL)
COPIED = wgmma_case(33, random_tensor(17, 1088, 64, 43), tokens=64, producers=1, stages=3)
ALONE = wgmma_case(33, random_tensor(130, 1088, 64, 43), BIAS, tokens=64, producers=2)
FILE, A8_FILE, PRIM = "w4a16_wgmma.cu", "w4a8_wgmma.cu", "prim_wgmma.cuh"
PRODUCTS = "w4a16_products.cuh"
SUMS = "cluster_sums.cuh"
BLOCK = "block_barrier<S, kHasOthers>()"
SCALE = "      scale_fragment(of.scales[tile], a);\n"
LATE = "    scale_fragment(of.scales[0], fragments[S::fragment(first)]);\n"
IN_USE = "numbers|copied without"
SETTLE = "      settle<S::kEights * 4>(part);\n"
ARRIVE = "  copy_wait<kPending>();\n  async_fence();\n  warp_barrier();\n"
BUGS = {
    # order of products
    "no fence": Bug(
        of=RING,
        patch=(PRODUCTS, "    wgmma_fence();\n", ""),
        seen="no wgmma_fence before it",
        in_all=True,
    ),
    "scaled behind the fence": Bug(
        of=RING,
        patch=(
            PRODUCTS,
            f"{SCALE}    }}\n    wgmma_fence();\n",
            f"    }}\n    wgmma_fence();\n{LATE}",
        ),
        seen="registers written since",
        in_all=True,
    ),
    "no wait": Bug(of=RING, patch=(PRODUCTS, "    wgmma_wait<S::kBatches - 1>();\n", "")),
    "one wait too few": Bug(
        of=RING, patch=(PRODUCTS, "wgmma_wait<S::kBatches - 1>", "wgmma_wait<S::kBatches>")
    ),
    "a fragment that is in use": Bug(
        of=RING,
        patch=(PRODUCTS, "product % (kBatch * kBatches);", "product % (kBatch * kBatches - 1);"),
    ),
    "no last wait": Bug(of=A16["group 32"], patch=(PRODUCTS, "  wgmma_wait<0>();\n", "")),
    "no commit": Bug(of=RING, patch=(PRODUCTS, "    wgmma_commit();\n", "")),
    # memory
    "activations before they are there": Bug(
        of=RING,
        patch=(FILE, "  grid_dependency_wait();\n#pragma", "#pragma"),
        in_all=True,
    ),
    "a8: codes before they are there": Bug(
        of=A8_RING, patch=(A8_FILE, "  grid_dependency_wait();\n", ""), in_all=True
    ),
    "no fence of the copies": Bug(
        of=RING,
        patch=(FILE, "    async_fence();\n    barrier();\n", "    barrier();\n"),
        seen="copied without async_fence",
        in_all=True,
    ),
    "fence of the copies before they are there": Bug(
        of=RING,
        patch=(
            FILE,
            "    copy_wait<S::kAhead - 1>();\n    async_fence();\n",
            "    async_fence();\n    copy_wait<S::kAhead - 1>();\n",
        ),
        seen="copied without async_fence",
    ),
    "no barrier": Bug(
        of=GROUPS,
        patch=(FILE, "    async_fence();\n    barrier();\n", "    async_fence();\n"),
        seen="numbers|copied without",
    ),
    "into the slot that is read": Bug(
        of=GROUPS,
        patch=(PRODUCTS, "kAhead = kStages - 2", "kAhead = kStages - 1"),
        seen="numbers|copied without",
    ),
    "another swizzle": Bug(
        of=RING, patch=(FILE, "((unit ^ row ^ i % 8) % 8)", "(unit % 8)"), in_all=True
    ),
    "halves of a chunk swapped": Bug(
        of=RING,
        patch=(FILE, "+ unit / 8 * S::kHalfBytes", "+ (1 - unit / 8) * S::kHalfBytes"),
        in_all=True,
    ),
    "no swizzle in the descriptor": Bug(
        of=RING,
        patch=(PRIM, "(u64)1 << 62 | ", ""),
        seen="descriptor of another swizzle",
        in_all=True,
    ),
    "8 rows a step too near": Bug(of=RING, patch=(PRIM, "(1024 / 16)", "(896 / 16)"), in_all=True),
    "tokens that are not there": Bug(
        of=RING,
        patch=(FILE, "go ? tokens : 0", "go ? S::kTokens : 0"),
        seen=OUTSIDE_OR_FREED,
        in_all=True,
    ),
    "inputs past the row": Bug(
        of=RING,
        patch=(FILE, "take = (int)(chunk * kUnits + unit) * 8 < k", "take = true"),
        seen=OUTSIDE_OR_FREED,
    ),
    # fragments
    "steps swapped": Bug(
        of=RING,
        patch=(PRODUCTS, "+ step % 4 * 2;", "+ (step % 4 ^ 1) * 2;"),
        in_all=True,
    ),
    "words of another step": Bug(
        of=RING, patch=(PRODUCTS, "[tile], step % 4)", "[tile], step % 4 ^ 2)"), in_all=True
    ),
    "scale applied twice": Bug(of=RING, patch=(PRODUCTS, SCALE, SCALE + SCALE), in_all=True),
    "scale of the other row": Bug(
        of=RING, patch=("w4_tile.cuh", "scales, 0x1010", "scales, 0x3232"), in_all=True
    ),
    "tiles in another order": Bug(
        of=GROUPS, patch=(SUMS, "column = warp_id()", "column = (warp_id() ^ 1)"), in_all=True
    ),
    # sums
    "sums over stages in use": Bug(
        of=GROUPS, patch=(SUMS, f"  {BLOCK};\n  lay_down", "  lay_down"), seen=IN_USE
    ),
    "sums read before they are there": Bug(
        of=GROUPS, patch=(SUMS, f"    {BLOCK};\n    store_share", "    store_share")
    ),
    "siblings' sums read before they are there": Bug(
        of=CLUSTER, patch=(SUMS, "  cluster_barrier();\n", "  barrier();\n")
    ),
    "ended while siblings read": Bug(
        of=CLUSTER,
        patch=(SUMS, "  cluster_barrier_relaxed();\n", ""),
        seen="a sibling that has ended",
    ),
    "a sibling left out": Bug(
        of=CLUSTER,
        patch=(SUMS, "block = 1; block < kBlocks", "block = 2; block < kBlocks"),
        in_all=True,
    ),
    "own sums alone": Bug(
        of=CLUSTER,
        patch=(SUMS, "sibling_address(from, block)", "sibling_address(from, rank)"),
        in_all=True,
    ),
    "tokens of the first block": Bug(
        of=CLUSTER, patch=(SUMS, "* kBlocks + rank;", "* kBlocks + rank % 1;"), in_all=True
    ),
    # producers
    "activations before they are there, of a producer": Bug(
        of=COPIED,
        patch=(FILE, "  grid_dependency_wait();\n  int slot", "  int slot"),
        in_all=True,
    ),
    "a producer does not wait for a free slot": Bug(
        of=COPIED,
        patch=(FILE, "      wait_arrivals(slots.empty + slot, parity);\n", ""),
        seen=f"{IN_USE}|deadlock",
    ),
    "a producer waits for another phase": Bug(
        of=COPIED,
        patch=(FILE, "parity = 1;  // of", "parity = 0;  // of"),
        seen=f"{IN_USE}|deadlock",
    ),
    "a producer tells too early": Bug(
        of=ALONE,
        patch=(FILE, "    copy_wait<S::kAhead>();\n", "    copy_wait<S::kAhead + 1>();\n"),
        seen=IN_USE,
    ),
    "a producer tells of another slot": Bug(
        of=ALONE,
        patch=(FILE, "slots.full + landed);", "slots.full + slot);"),
        seen=f"{IN_USE}|deadlock",
    ),
    "one producer tells for all": Bug(
        of=ALONE,
        patch=(FILE, "slots.full + thread_id(), S::kProducers", "slots.full + thread_id(), 1"),
        seen=f"{IN_USE}|deadlock",
    ),
    "no fence of a producer's copies": Bug(
        of=COPIED,
        patch=(FILE, "    async_fence();\n    warp_barrier();\n", "    warp_barrier();\n"),
        seen="copied without async_fence",
        in_all=True,
    ),
    "a chunk that is not there": Bug(
        of=COPIED,
        patch=(PRODUCTS, "    wait_arrivals(slots.full + slot, parity);\n", "    (void)slots;\n"),
        seen=f"{IN_USE}|deadlock",
    ),
    "the slot that is read given back": Bug(
        of=COPIED,
        patch=(PRODUCTS, "give_back(before)", "give_back(before * 0 + slot)"),
        seen=f"{IN_USE}|deadlock",
    ),
    "slots never given back": Bug(
        of=COPIED,
        patch=(PRODUCTS, "chunk > 0) give", "chunk < 0) give"),
        seen="deadlock",
        in_all=True,
    ),
    "arrivals nobody has initialised": Bug(
        of=ALONE,
        patch=(FILE, "    barrier();\n    if (warp_id()", "    if (warp_id()"),
        seen="nobody has initialised|deadlock",
    ),
    "tokens of a turn in one swizzle": Bug(
        of=COPIED, patch=(FILE, "((unit ^ row ^ i % 8) % 8)", "((unit ^ row) % 8)"), in_all=True
    ),
    "tiles of another producer": Bug(
        of=ALONE,
        patch=("w4_reader.cuh", "(warp_id() - kFirstWarp)", "(kFirstWarp + 1 - warp_id())"),
        in_all=True,
    ),
    "a barrier for warps that have ended": Bug(
        of=ALONE,
        patch=(SUMS, "barrier_named(1, S::kThreads)", "barrier()"),
        seen="deadlock",
        in_all=True,
    ),
    # int8
    "a8: no wait": Bug(of=A8_RING, patch=(A8_FILE, f"      wgmma_wait<0>();\n{SETTLE}", SETTLE)),
    "a8: no fence": Bug(
        of=A8_RING,
        patch=(A8_FILE, "group, a);\n      wgmma_fence();\n", "group, a);\n"),
        seen="no wgmma_fence before it",
        in_all=True,
    ),
    "a8: sums of all groups": Bug(
        of=A8_RING, patch=(A8_FILE, "step > 0)", "step >= 0)"), seen="numbers", in_all=True
    ),
    "a8: scale applied twice": Bug(
        of=A8_RING,
        patch=(
            A8_FILE,
            "multiply_add(value, scale[i / 2]",
            "multiply_add(value * scale[i / 2], scale[i / 2]",
        ),
        in_all=True,
    ),
    "a8: scale of the other token": Bug(
        of=A8_RING, patch=(A8_FILE, "of_token[i % 2]", "of_token[1 - i % 2]"), in_all=True
    ),
    "a8: arrives without its copies": Bug(
        of=A8_RING,
        patch=(A8_FILE, ARRIVE, ARRIVE.replace("kPending>", "kPending + 1>")),
        seen="numbers|copied without",
    ),
    "a8: no fence of the copies": Bug(
        of=A8_RING,
        patch=(A8_FILE, ARRIVE, ARRIVE.replace("  async_fence();\n", "")),
        seen="copied without async_fence",
        in_all=True,
    ),
    "a8: does not wait for the others": Bug(
        of=A8_RING,
        patch=(A8_FILE, "    wait_arrivals(ring.arrivals + slot, parity);\n", ""),
        seen="numbers|copied without",
    ),
    "a8: waits for another phase": Bug(
        of=A8_RING,
        patch=(A8_FILE, "    parity ^= next == 0;\n", ""),
        seen="numbers|copied without|deadlock",
    ),
    "a8: into the slot that is read": Bug(
        of=A8_RING,
        patch=(A8_FILE, "kAhead = kStages - 2", "kAhead = kStages - 1"),
        seen="numbers|copied without",
    ),
    "a8: arrivals not there yet": Bug(
        of=A8_RING,
        patch=(A8_FILE, "  barrier();\n  arrive_copied", "  arrive_copied"),
        seen="nobody has initialised|deadlock",
    ),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [case.plan for case in CASES.values()]
    return program_of(tmp_path_factory.mktemp("wgmma"), plans, BUGS.values())


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_truth_in_every_schedule(program: Emulation, name: str) -> None:
    check_in_all_schedules(program, CASES[name])


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(program: Emulation, name: str) -> None:
    check_caught(program, BUGS[name])


def test_without_a_bug_all_is_well(program: Emulation) -> None:
    check_well(program, BUGS.values())
