"""Clusters in the emulator: against numpy, and what is undefined is reported."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels.cuda.compile import compile_file
from edgebench_kernels.cuda.errors import CompileError

from .emulation import (
    EMULATOR,
    SCHEDULES,
    Emulation,
    EmulationError,
    Launch,
    Patch,
    Schedule,
    Variant,
)

TOYS = EMULATOR / "toys_cluster.cu"
FILE = TOYS.name
FIRST, LAST = "  cluster_barrier();\n", "  cluster_barrier_relaxed();\n"
FROM = "16 * (threads() - 1 - thread_id())"
REPORTED: dict[str, tuple[Patch, str]] = {
    "another rank": (
        (FILE, "rank < cluster_blocks()", "rank <= cluster_blocks()"),
        r"cluster: rank 4 of 4 at toys_cluster.cu:\d+",
    ),
    "bytes outside": (
        (FILE, FROM, "16 * (threads() - thread_id())"),
        r"cluster: byte 1024 of a sibling's 1024 of shared memory at toys_cluster.cu:\d+",
    ),
    "misaligned": (
        (FILE, FROM, f"8 + {FROM}"),
        r"misaligned: byte \d+ of a sibling at toys_cluster.cu:\d+",
    ),
    "a lane is missing": (
        (FILE, FIRST, "  if (thread_id() != 5) cluster_barrier();\n"),
        r"divergence: |deadlock: ",
    ),
    "a block is missing": (
        (FILE, FIRST, "  if (block_z() % 4 != 1) cluster_barrier();\n"),
        r"divergence: one barrier of a cluster from toys_cluster.cu:\d+",
    ),
    "lanes apart": (
        (FILE, FIRST, f"  if (thread_id() == 5) {{\n{FIRST}  }} else {{\n{FIRST}  }}\n"),
        r"divergence: lane 0 at toys_cluster.cu:\d+, lane 5 at toys_cluster.cu:\d+",
    ),
    "warps apart": (
        (FILE, FIRST, f"  if (warp_id() == 1) {{\n{FIRST}  }} else {{\n{FIRST}  }}\n"),
        r"divergence: one barrier of a cluster from toys_cluster.cu:\d+",
    ),
}
UNREAD: Patch = (FILE, FIRST, "  barrier();\n")
UNHELD: Patch = (FILE, LAST, "")


def toy(*patches: Patch) -> Variant:
    return Variant(file=str(TOYS), kernel="toy_cluster", patches=patches)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    patches = [patch for patch, _ in REPORTED.values()] + [UNREAD, UNHELD]
    return Emulation(tmp_path_factory.mktemp("toys"), [toy(), *map(toy, patches)])


def is_right(toys: Emulation, schedule: Schedule, *patches: Patch, cluster: int = 4) -> bool:
    """Whether each block's numbers are numpy's."""
    x = np.random.default_rng(1).integers(0, 2**20, (8, 2, 64, 4), dtype=np.uint32)
    launch = Launch(
        variant=toy(*patches),
        grid=(2, 1, 8),
        cluster=cluster,
        threads=64,
        shared_bytes=1024,
        arguments=(x, np.zeros_like(x)),
        schedule=schedule,
    )
    [[_, y]] = toys.run([launch])
    sums = x.reshape(8 // cluster, cluster, 2, 64, 4).sum(axis=1)[:, :, ::-1]
    rank = (np.arange(8) % cluster).reshape(8, 1, 1, 1)
    return np.array_equal(y, np.repeat(sums, cluster, axis=0) + rank)


@pytest.mark.native
@pytest.mark.parametrize("cluster", [1, 2, 4, 8])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_blocks_read_each_other(toys: Emulation, schedule: Schedule, cluster: int) -> None:
    assert is_right(toys, schedule, cluster=cluster)


@pytest.mark.native
@pytest.mark.parametrize("bug", REPORTED)
def test_what_is_undefined_is_reported(toys: Emulation, bug: str) -> None:
    patch, message = REPORTED[bug]
    for schedule in SCHEDULES:
        with pytest.raises(EmulationError, match=message):
            is_right(toys, schedule, patch)


@pytest.mark.native
def test_reading_before_the_barrier_shows_in_some_schedule(toys: Emulation) -> None:
    assert not all(is_right(toys, schedule, UNREAD) for schedule in SCHEDULES)


@pytest.mark.native
def test_ending_before_the_barrier_shows_in_some_schedule(toys: Emulation) -> None:
    said = []
    for schedule in SCHEDULES:
        try:
            assert is_right(toys, schedule, UNHELD)
        except EmulationError as err:
            said.append(str(err))
    assert said
    for text in said:
        assert "cluster: a sibling that has ended at toys_cluster.cu:" in text


@pytest.mark.native
def test_a_grid_is_whole_clusters(toys: Emulation) -> None:
    launch = Launch(variant=toy(), grid=(1, 1, 3), cluster=2, threads=64, shared_bytes=1024,
                    arguments=(None, None))  # fmt: skip
    with pytest.raises(EmulationError, match="a grid must be whole clusters"):
        toys.run([launch])


@pytest.mark.nvrtc
def test_it_compiles_for_hopper_and_for_nothing_else() -> None:
    assert compile_file(TOYS, "sm_90a").code
    with pytest.raises(CompileError, match="sm_80"):
        compile_file(TOYS, "sm_80")
