"""Large products of blocks that give each other their tokens, emulated against float64."""

from __future__ import annotations

import pytest

from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU

from .cases import random_tensor
from .emulation import Emulation, Schedule
from .linears import multicast_case
from .planted import (
    OUTSIDE_OR_FREED,
    Bug,
    check_caught,
    check_in_all_schedules,
    check_well,
    program_of,
)

pytestmark = [pytest.mark.native, pytest.mark.slow]

SMALL = {"tokens": 64, "tiles": 1, "warps": 4, "stages": 3}
# Rings go round where chunks > stages; rows of blocks that are not there still share their tokens.
CASES = {
    "one token, one chunk": multicast_case(1, random_tensor(1, 128, 128, 0), FLOAT_OUT, **SMALL),
    "group 32, ring goes round": multicast_case(33, random_tensor(80, 640, 32, 1), **SMALL),
    "half a chunk": multicast_case(65, random_tensor(130, 200, 200, 2), RESIDUAL, **SMALL),
    "two tiles, swiglu": multicast_case(
        40, random_tensor(288, 768, 128, 3), SWIGLU | BIAS, **{**SMALL, "tiles": 2}
    ),
    "four sharers": multicast_case(
        70, random_tensor(200, 512, 64, 4), BIAS | RESIDUAL, sharers=4, **SMALL
    ),
    "128 tokens, two warp groups": multicast_case(
        130, random_tensor(300, 384, 128, 5), tokens=128, tiles=1, warps=8, stages=3
    ),
    "batches of 1": multicast_case(
        9, random_tensor(40, 512, 128, 6), FLOAT_OUT, batch=1, batches=4, **SMALL
    ),
}
RING = multicast_case(33, random_tensor(130, 1152, 64, 7), **SMALL)
FILE, PRODUCTS = "w4a16_multicast.cu", "w4a16_products.cuh"
STUCK = "numbers|deadlock"
WAIT = "    wait_arrivals(slots.full + slot, parity);\n"
GIVE = "if (lane_id() < kSharers) arrive_at(slots.empty + slot, "
COUNT = "slots.empty + thread_id(), S::kWarps"
STORE = "store_block<kFlags, S::kWarps, "
BUGS = {
    "tokens before they are there": Bug(
        of=RING, patch=(FILE, "    grid_dependency_wait();\n", ""), in_all=False
    ),
    "does not wait for a free slot": Bug(
        of=RING, patch=(FILE, "      wait_siblings(slots.empty + slot, parity);\n", ""), seen=STUCK
    ),
    "waits for another phase": Bug(
        of=RING, patch=(FILE, "    u32 parity = 0;\n", "    u32 parity = 1;\n"), seen=STUCK
    ),
    "a slot is free in this block alone": Bug(
        of=RING,
        patch=(FILE, f"{GIVE}lane_id())", f"{GIVE}cluster_rank())"),
    ),
    "one block's warps free a slot": Bug(
        of=RING,
        patch=(FILE, f"{COUNT} * kSharers", COUNT),
        seen=STUCK,
    ),
    "a slot is freed that is read": Bug(
        of=RING, patch=(PRODUCTS, "give_back(before)", "give_back(before * 0 + slot)"), seen=STUCK
    ),
    "a chunk that is not there": Bug(
        of=RING, patch=(PRODUCTS, WAIT, "    (void)slots, (void)parity;\n"), seen=STUCK
    ),
    "its own share's bytes alone": Bug(
        of=RING,
        patch=(FILE, "Share::kTokenBytes + rows", "Share::kTokenBytes / 2 + rows"),
        seen=STUCK,
    ),
    "bytes of rows that are not there": Bug(
        of=RING,
        patch=(FILE, "rows * S::kTileBytes)", "S::kWarps * S::kTiles * S::kTileBytes)"),
        seen="deadlock",
        in_all=True,
    ),
    "weights of rows that are not there": Bug(
        of=RING,
        patch=(FILE, "if (lane_id() < rows)", "if (lane_id() < S::kWarps * S::kTiles)"),
        seen=f"{OUTSIDE_OR_FREED}|SEGV|{STUCK}",
        in_all=True,
    ),
    "tokens to itself alone": Bug(
        of=RING,
        patch=(FILE, "slots.full + slot, Share::kAll)", "slots.full + slot, 1 << rank)"),
        seen="deadlock",
        in_all=True,
    ),
    "everybody's share the same": Bug(
        of=RING, patch=(FILE, "first_token + rank * Share::kShare", "first_token"), in_all=True
    ),
    "shares in one place": Bug(
        of=RING, patch=(FILE, " + rank * Share::kShareBytes", ""), in_all=True
    ),
    "halves of a chunk swapped": Bug(
        of=RING, patch=(FILE, "+ 64 * half", "+ 64 * (1 - half)"), in_all=True
    ),
    "rows of the first block": Bug(
        of=RING,
        patch=(FILE, "out, k, first_tile, memory", "out, k, first_tile * 0, memory"),
        in_all=True,
    ),
    "arrivals before they are there": Bug(
        of=RING,
        patch=(FILE, "  cluster_barrier();\n", ""),
        seen="nobody has initialised|deadlock|has ended",
    ),
    "ended while siblings arrive": Bug(
        of=RING,
        patch=(FILE, "  cluster_barrier_relaxed();", "  ;"),
        seen="has ended",
        schedules=tuple(Schedule(is_early=True, is_greedy=True, seed=i) for i in range(40)),
    ),
    "a barrier for the producer too": Bug(
        of=RING,
        patch=(FILE, f"{STORE}true>", f"{STORE}false>"),
        seen="deadlock",
        in_all=True,
    ),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [case.plan for case in CASES.values()]
    return program_of(tmp_path_factory.mktemp("multicast"), plans, BUGS.values())


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_truth_in_every_schedule(program: Emulation, name: str) -> None:
    check_in_all_schedules(program, CASES[name])


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(program: Emulation, name: str) -> None:
    check_caught(program, BUGS[name])


def test_without_a_bug_all_is_well(program: Emulation) -> None:
    check_well(program, BUGS.values())
