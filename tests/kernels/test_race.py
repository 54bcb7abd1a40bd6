"""The race of kernels: wrong answers are never timed, absent peers are said, shares are right."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest

from edgebench_kernels import ceilings
from edgebench_kernels.race import cases, ours, peers, race, turns
from edgebench_kernels.race.cases import Case
from edgebench_kernels.race.rows import Row, interquartile_range, summarize

pytestmark = pytest.mark.native

KEYS = (
    "op n k m group isa threads ms ms_iqr weight_gb_per_s gflops percent_of_bandwidth "
    "percent_of_compute rel_error peer ratio_to_best_peer"
).split()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns and ceilings of a moment, few copies."""
    monkeypatch.setattr(turns, "SHORTEST_TURN_NS", 1000)
    monkeypatch.setattr(turns, "QUIET_WINDOW_S", 1e-4)
    monkeypatch.setattr(ceilings, "BUDGET_NS", 1_000_000)
    monkeypatch.setattr(ceilings, "last_level_cache_bytes", lambda: 1 << 16)


def run(peer_names: tuple[str, ...], notes: list[str] | None = None) -> list[Row]:
    several = [Case(n=130, k=256, m=m, group=128) for m in (1, 5)]
    found: Iterator[list[Row]] = race.race_shape(
        several,
        ops=("w4a16", "w4a8"),
        peer_names=peer_names,
        rounds=3,
        note=(notes if notes is not None else []).append,
    )
    return [row for rows in found for row in rows]


def test_rows_have_the_promised_keys_in_order() -> None:
    assert [field.name for field in dataclasses.fields(Row)] == KEYS


def test_ours_alone() -> None:
    rows = run(())
    assert [(row.op, row.m) for row in rows] == [
        ("w4a16", 1),
        ("w4a8", 1),
        ("w4a16", 5),
        ("w4a8", 5),
    ]
    for row in rows:
        assert row.peer is None
        assert row.ratio_to_best_peer is None
        assert row.ms is not None
        assert row.gflops is not None
        assert row.gflops == pytest.approx(2 * 130 * 256 * row.m / row.ms / 1e6)
        assert row.rel_error is not None
        assert row.rel_error < (1e-4 if row.op == "w4a16" else 3e-2)


def test_a_peer_is_raced_and_compared() -> None:
    rows = run(("torch-bf16", "torch-fp16"))
    timed = {row.peer or row.op: row for row in rows if row.m == 5}
    assert set(timed) == {"w4a16", "w4a8", "torch-bf16", "torch-fp16"}
    ratios = [timed[name].ratio_to_best_peer for name in ("torch-bf16", "torch-fp16")]
    assert 1.0 in ratios
    assert timed["w4a8"].ratio_to_best_peer is not None


def test_an_absent_peer_has_a_row_without_numbers_and_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(tensor: object, threads: int) -> cases.Contender:
        raise ModuleNotFoundError("No module named 'elsewhere'")

    monkeypatch.setitem(peers.PEERS, "elsewhere", peers.Peer(op="w4a8", start=absent, tolerance=1))
    notes: list[str] = []
    rows = [row for row in run(("elsewhere",), notes) if row.peer == "elsewhere"]
    assert [row.ms for row in rows] == [None, None]
    assert "No module named 'elsewhere'" in notes[0]


def test_a_wrong_peer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = peers.PEERS["torch-bf16"]
    strict = dataclasses.replace(right, tolerance=1e-9)
    monkeypatch.setitem(peers.PEERS, "torch-bf16", strict)
    notes: list[str] = []
    rows = [row for row in run(("torch-bf16",), notes) if row.peer]
    assert all(row.ms is None and row.rel_error is not None for row in rows)
    assert "relative error" in notes[0]


def test_a_wrong_kernel_stops_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: ours.Ours) -> np.ndarray:
        y = right(self)
        y[-1, -1] += 1e-3 * np.abs(y).max()
        return y

    right = ours.Ours.first_output
    monkeypatch.setattr(ours.Ours, "first_output", wrong)
    with pytest.raises(race.WrongResult, match="leaves its float64 twin"):
        run(())


def test_too_little_memory_is_said_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "available_bytes", lambda: 1000)
    with pytest.raises(MemoryError, match="take a smaller shape"):
        run(())


def test_rounds_go_forth_and_back() -> None:
    order: list[str] = []

    class Runner:
        ceiling = None
        products = 1

        def __init__(self, name: str) -> None:
            self.name = name

        def call(self) -> None:
            if order[-1:] != [self.name]:
                order.append(self.name)

    turns.take_turns({name: Runner(name) for name in "abc"}, 3, ())  # type: ignore[misc]
    assert "".join(order) == "abcbabc"  # c and a each run twice in a row at the turns


def test_summary_is_the_geometric_mean_over_shapes() -> None:
    first = run(())[0]
    rows = [
        dataclasses.replace(first, n=64, percent_of_bandwidth=50.0, ratio_to_best_peer=2.0),
        dataclasses.replace(first, n=128, percent_of_bandwidth=98.0, ratio_to_best_peer=None),
        dataclasses.replace(first, n=256, ms=None),
    ]
    (mean,) = summarize(rows)
    assert mean.shapes == 2
    assert mean.percent_of_bandwidth == pytest.approx(math.sqrt(50 * 98))
    assert mean.ratio_to_best_peer is None


def test_interquartile_range() -> None:
    assert interquartile_range([1, 2, 3, 4, 5]) == 2
    assert interquartile_range([7]) == 0
