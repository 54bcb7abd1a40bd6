"""Bulk copies in the emulator: against numpy, and what is undefined is reported."""

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
    Tiled,
    Variant,
)

TOYS = EMULATOR / "toys_bulk.cu"
FILE = TOYS.name
WAIT = "  wait_arrivals(full, 0);\n"
REPORTED: dict[str, tuple[Patch, str]] = {
    "bytes past shared memory": (
        (FILE, "copy_bulk(own,", "copy_bulk(own + 128,"),
        r"bulk copy: 256 bytes past shared memory at toys_bulk.cu:\d+",
    ),
    "no whole 16 bytes": (
        (FILE, "block_z(), 256, full);", "block_z(), 250, full);"),
        r"a bulk copy of no whole 16 bytes at toys_bulk.cu:\d+",
    ),
    "a tile that is not aligned": (
        (FILE, "copy_tile(memory + 1024 * rank", "copy_tile(memory + 1024 * rank + 128"),
        r"misaligned: .* is no multiple of 1024 at toys_bulk.cu:\d+",
    ),
    "a block that is not there": (
        (FILE, "(1 << blocks) - 1", "1 << blocks"),
        r"cluster: rank 2 of 2 at toys_bulk.cu:\d+",
    ),
    "arrivals that nobody has initialised": (
        (FILE, "  if (thread == 0) arrivals_init(full, 1);\n", ""),
        r"arrivals that nobody has initialised at toys_bulk.cu:\d+",
    ),
    "more bytes than come": ((FILE, "blocks + 256);", "blocks + 272);"), r"deadlock: "),
    "fewer bytes than come": ((FILE, "blocks + 256);", "blocks + 240);"), r"deadlock: "),
}
UNREAD: Patch = (FILE, WAIT, "")
UNMET: Patch = (FILE, "  cluster_barrier();\n", "")


def toy(*patches: Patch) -> Variant:
    return Variant(file=str(TOYS), kernel="toy_bulk", patches=patches)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    patches = [patch for patch, _ in REPORTED.values()] + [UNREAD, UNMET]
    return Emulation(tmp_path_factory.mktemp("toys"), [toy(), *map(toy, patches)])


def is_right(
    toys: Emulation,
    schedule: Schedule,
    *patches: Patch,
    cluster: int = 2,
    place: tuple[int, int] = (0, 0),
) -> bool:
    """Whether each block has numpy's tiles, zeros outside of x, and its own words."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((37, 104)).astype(np.float16)
    w = rng.integers(0, 2**32, (8, 64), dtype=np.uint32)
    y = np.zeros((8, 256 * cluster + 64), np.uint32)
    launch = Launch(
        variant=toy(*patches),
        grid=(1, 1, 8),
        cluster=cluster,
        threads=64,
        shared_bytes=1024 * cluster + 256 + 8,
        arguments=(Tiled(x, x.shape, 8), w, y, *map(np.int32, place)),
        schedule=schedule,
    )
    [[_, _, y]] = toys.run([launch])
    whole = np.zeros((37 + 64, 104 + 64), np.float16)
    whole[:37, :104] = x
    row, column = place
    tile = np.ascontiguousarray(whole[row : row + 8 * cluster, column : column + 64])
    expected = np.hstack([np.tile(tile.view(np.uint32).reshape(1, -1), (8, 1)), w])
    return np.array_equal(y, expected)


@pytest.mark.native
@pytest.mark.parametrize("cluster", [1, 2, 4, 8])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_blocks_are_given_tiles(toys: Emulation, schedule: Schedule, cluster: int) -> None:
    assert is_right(toys, schedule, cluster=cluster)


@pytest.mark.native
@pytest.mark.parametrize("place", [(16, 64), (33, 96), (40, 0), (0, 104)])
def test_outside_of_the_matrix_are_zeros(toys: Emulation, place: tuple[int, int]) -> None:
    assert all(is_right(toys, schedule, place=place) for schedule in SCHEDULES)


@pytest.mark.native
@pytest.mark.parametrize("bug", REPORTED)
def test_what_is_undefined_is_reported(toys: Emulation, bug: str) -> None:
    patch, message = REPORTED[bug]
    for schedule in SCHEDULES:
        with pytest.raises(EmulationError, match=message):
            is_right(toys, schedule, patch)


@pytest.mark.native
def test_reading_before_the_bytes_are_there_shows_in_some_schedule(toys: Emulation) -> None:
    assert not all(is_right(toys, schedule, UNREAD) for schedule in SCHEDULES)


@pytest.mark.native
def test_a_sibling_that_has_not_begun_shows_in_some_schedule(toys: Emulation) -> None:
    said = []
    for seed in range(20):
        try:
            is_right(toys, Schedule(is_early=True, is_greedy=True, seed=seed), UNMET, cluster=4)
        except EmulationError as err:
            said.append(str(err))
    assert said
    for text in said:
        assert "arrivals that nobody has initialised" in text


@pytest.mark.nvrtc
def test_it_compiles_for_hopper_and_for_nothing_else() -> None:
    assert compile_file(TOYS, "sm_90a").code
    with pytest.raises(CompileError, match="sm_80"):
        compile_file(TOYS, "sm_80")
