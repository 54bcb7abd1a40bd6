"""The choice of tokens and the books of a greedy loop, emulated in every schedule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda import step_geometry
from edgebench_kernels.cuda.step_geometry import BAD_TOKEN, FULL, NOT_FINITE

from .emulation import SCHEDULES, Emulation
from .planted import program_of
from .step import nan_like, run_everywhere, step_launch

pytestmark = [pytest.mark.native, pytest.mark.slow]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [step_geometry.argmax(1, 1, is_float=is_float) for is_float in (False, True)]
    plans.append(step_geometry.advance())
    return program_of(tmp_path_factory.mktemp("choice"), plans)


# ------------------------------------------------------------------------------------------ argmax


def run_argmax(program: Emulation, logits: NDArray, parts: int) -> tuple[list[int], list[int]]:
    """Ids and status of each row."""
    rows, n = logits.shape
    plan = step_geometry.argmax(rows, n, is_float=logits.dtype == np.float32)
    plan = replace(plan, grid=(parts, rows, 1))
    arguments = [logits, nan_like((rows,), np.int64), np.zeros(rows, np.uint32)]
    arguments += [np.zeros(rows, np.uint64), np.zeros(rows, np.uint32), np.int32(n)]
    _, ids, status, best, counters = run_everywhere(program, plan, arguments)
    assert not best.any()
    assert not counters.any()
    return ids.tolist(), status.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("n", "parts"), [(1, 1), (11, 2), (1003, 3), (2304, 1), (4104, 2)])
def test_argmax_is_numpys(program: Emulation, dtype: type, n: int, parts: int) -> None:
    rng = np.random.default_rng(n)
    logits = rng.standard_normal((3, n)).astype(dtype)
    logits[1] = -np.abs(logits[1])
    logits[2] = np.round(4 * logits[2])  # ties, between blocks too
    ids, status = run_argmax(program, logits, parts)
    assert ids == logits.argmax(-1).tolist()
    assert status == [0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_argmax_at_the_edges(program: Emulation, dtype: type) -> None:
    logits = np.zeros((6, 2304), dtype)
    logits[0, [5, 2300]] = -0.0  # as large as 0
    logits[1] = -1
    logits[1, [2299, 2301, 2302]] = -np.nan, np.inf, np.nan
    logits[2, [7, 9]] = np.inf, np.nan
    logits[3, [2100, 2200]] = np.inf
    logits[4] = -np.inf
    logits[5] = np.finfo(dtype).min
    logits[5, 2303] = np.finfo(dtype).max
    ids, status = run_argmax(program, logits, 2)
    assert ids == [0, 2299, 9, 2100, 0, 2303]
    assert status == [0, NOT_FINITE, NOT_FINITE, NOT_FINITE, NOT_FINITE, 0]


# ----------------------------------------------------------------------------------------- advance


class Loop:
    """The state of a greedy loop, as the host would keep it."""

    def __init__(self, rows: int, limit: int, length: int, eos: int) -> None:
        self.limit, self.length, self.eos = limit, length, eos
        self.columns = np.arange(rows, dtype=np.int32) % 3
        self.counts = np.zeros(rows, np.int32)
        self.finished = np.zeros(rows, np.int32)
        self.status = np.zeros(rows, np.uint32)
        self.output = np.full((rows, limit), -7, np.int64)
        self.remaining = np.full(1, -1, np.int32)

    def state(self) -> list[NDArray]:
        return [self.columns, self.counts, self.finished, self.status, self.output, self.remaining]

    def arguments(self, ids: NDArray[np.int64]) -> list:
        sizes = (len(ids), self.limit, self.length, self.eos)
        return [ids, *self.state(), *(np.int32(size) for size in sizes)]

    def step(self, ids: NDArray[np.int64]) -> None:
        for row, token in enumerate(ids):
            if self.finished[row]:
                continue
            self.finished[row] = 1
            if self.status[row] & (NOT_FINITE | BAD_TOKEN):
                continue
            self.output[row, self.counts[row]] = token
            self.counts[row] += 1
            if token == self.eos or self.counts[row] == self.limit:
                continue
            if self.columns[row] + 1 >= self.length:
                self.status[row] |= FULL
                continue
            self.columns[row] += 1
            self.finished[row] = 0
        self.remaining[0] = (self.finished == 0).sum()


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_advance_is_what_a_host_would_do(program: Emulation, rows: int) -> None:
    rng = np.random.default_rng(rows)
    loop, plan = Loop(rows, limit=5, length=6, eos=2), step_geometry.advance()
    for step in range(6):
        ids = rng.integers(0, 9, rows)
        ids[0] = 3  # never ends by itself
        if step == 2 and rows > 1:
            loop.status[1] = NOT_FINITE
            loop.status[3] = BAD_TOKEN
        given = loop.arguments(ids)
        results = run_everywhere(program, plan, [*map(np.copy, given[:7]), *given[7:]])
        loop.step(ids)
        for array, expected in zip(results[1:], loop.state(), strict=True):
            assert np.array_equal(array, expected)
    assert loop.counts[0] == 5
    assert loop.remaining[0] == 0
    assert rows < 5 or loop.status[2] == FULL or loop.finished[2]


def test_no_token_ends_a_row_where_there_is_no_eos(program: Emulation) -> None:
    loop = Loop(2, limit=9, length=9, eos=-1)
    ids = np.array([0, 2], np.int64)
    [[_, columns, counts, finished, *_, remaining]] = program.run(
        [step_launch(step_geometry.advance(), loop.arguments(ids), SCHEDULES[0])]
    )
    assert columns.tolist() == [1, 2]
    assert counts.tolist() == [1, 1]
    assert not finished.any()
    assert remaining[0] == 2
