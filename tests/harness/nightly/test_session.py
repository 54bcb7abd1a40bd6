"""Sessions and nights: pairs in ABBA order, verdicts, void nights, failures, false discoveries."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import pytest

from edgebench.errors import RunFailed
from edgebench.nightly.history import HistoryRow
from edgebench.nightly.night import Labels, Night, make_night, state_of, to_row
from edgebench.nightly.probe import CONTROL
from edgebench.nightly.session import Plan, Session, run_session
from edgebench.nightly.suite import KernelCell, Suite
from edgebench.paired import log_ratio

LABELS = Labels(system="box", baseline="v1", head="v2", night_utc="2026-01-10T00:00:00Z")


class Machine:
    """A machine whose head is so many times slower than its baseline, with seeded noise."""

    def __init__(
        self, factors: Mapping[str, float], noise: float = 0.002, control: float = 1.0
    ) -> None:
        self.factors, self.noise, self.control = factors, noise, control
        self.draw = random.Random(5)
        self.turns: list[tuple[bool, tuple[str, ...]]] = []

    def __call__(self, is_head_first: bool, cells: Sequence[str]) -> dict[str, float]:
        self.turns.append((is_head_first, tuple(cells)))
        slower = {cell: self.factors[cell] for cell in cells} | {CONTROL: self.control}
        return {
            cell: math.log(factor * self.draw.gauss(1, self.noise) / self.draw.gauss(1, self.noise))
            for cell, factor in slower.items()
        }


def session(
    machine: Machine, limit_percent: float = 2.0, budget_s: float = 1e9, **changes: object
) -> Session:
    limits = dict.fromkeys(machine.factors, log_ratio(limit_percent))
    plan = Plan(looks=[8, 16, 32], budget_s=budget_s, alarm_p=0.01 / len(limits))
    return run_session(machine, limits, plan, **changes)  # type: ignore[arg-type]


def suite(*names: int) -> Suite:
    cells = [KernelCell(path="w4a16", n=n, k=64) for n in names]
    return Suite(name="s", kernels=cells)


def test_pairs_alternate_their_order() -> None:
    machine = Machine({"a": 1.0})
    session(machine)
    heads = [is_head_first for is_head_first, _ in machine.turns]
    assert heads[:4] == [False, True, False, True]


def test_decided_cells_are_measured_no_longer() -> None:
    machine = Machine({"slow": 1.10, "edge": 1.015}, noise=0.006)
    done = session(machine)
    by_name = {own.cell: own for own in done.outcomes}
    assert by_name["slow"].verdict == "SLOWER"
    assert len(by_name["slow"].ratios) == 16  # eight pairs of two cells are not sure enough
    assert len(by_name["edge"].ratios) == 32
    assert all("slow" not in cells for _, cells in machine.turns[16:])


@pytest.mark.parametrize(
    ("factor", "said"), [(1.05, "SLOWER"), (0.95, "FASTER"), (1.0, "SAME"), (1.005, "SAME")]
)
def test_verdicts_of_a_quiet_machine(factor: float, said: str) -> None:
    own = session(Machine({"a": factor})).outcomes[0]
    assert (own.cell, own.verdict) == ("a", said)


def test_a_noisy_machine_is_unsure_after_all_looks() -> None:
    done = session(Machine({"a": 1.0}, noise=0.2))
    assert done.pairs == 32
    assert done.outcomes[0].verdict == "UNSURE"
    assert not done.ran_out


def test_the_budget_ends_a_session() -> None:
    now = iter(range(0, 10_000, 10))
    done = session(Machine({"a": 1.0}, noise=0.2), budget_s=100, clock=lambda: next(now))
    assert done.ran_out
    assert 0 < done.pairs < 32


def test_a_failed_process_drops_its_pair_and_three_end_the_session() -> None:
    class Failing(Machine):
        def __call__(self, is_head_first: bool, cells: Sequence[str]) -> dict[str, float]:
            times = super().__call__(is_head_first, cells)
            if len(self.turns) == 2:
                raise RunFailed("[test] killed")
            return times

    done = session(Failing({"a": 1.0}))
    assert done.pairs >= 8
    assert done.faults == ("[test] killed",)

    class Dead(Machine):
        def __call__(self, is_head_first: bool, cells: Sequence[str]) -> dict[str, float]:
            raise RunFailed("[test] dead")

    dead = session(Dead({"a": 1.0}))
    assert len(dead.faults) == 3
    assert dead.outcomes == ()
    night = make_night(suite(64), dead, LABELS, {"w4a16 64x64 m1": (0.02, "x")}, [])
    assert [cell.state for cell in night.cells] == ["insufficient data"]
    assert night.exit_code(strict=True) == 7


def night_of(machine: Machine, *, history: Sequence[HistoryRow] = ()) -> Night:
    sizes = [int(name.split()[1].partition("x")[0]) for name in machine.factors]
    own = suite(*sizes)
    limits = dict.fromkeys(own.names, (log_ratio(2), "test"))
    return make_night(own, session(machine), LABELS, limits, history)


def cells(*factors: float) -> dict[str, float]:
    return {f"w4a16 {64 * (i + 1)}x64 m1": factor for i, factor in enumerate(factors)}


def test_a_regression_is_exit_6() -> None:
    night = night_of(Machine(cells(1.0, 1.10)))
    assert [cell.state for cell in night.cells] == ["no change", "regression"]
    assert night.exit_code(strict=False) == 6


def test_a_moved_control_voids_the_night() -> None:
    night = night_of(Machine(cells(1.0, 1.10), control=1.05))
    assert night.is_void
    assert {cell.state for cell in night.cells} == {"void"}
    assert night.exit_code(strict=False) == 0
    assert night.exit_code(strict=True) == 7


def test_a_quiet_night_is_exit_0_even_when_strict() -> None:
    assert night_of(Machine(cells(1.0, 1.0))).exit_code(strict=True) == 0


def test_a_slow_cell_that_many_cells_explain_is_suspicious() -> None:
    slow = session(Machine({"a": 1.1})).outcomes[0]
    assert state_of(slow, is_held=True) == "regression"
    assert state_of(slow, is_held=False) == "suspicious"
    assert state_of(None, is_held=False) == "insufficient data"


def test_a_version_against_itself_is_an_aa_row() -> None:
    night = night_of(Machine(cells(1.0)))
    (cell,) = night.cells
    assert to_row("s", LABELS, cell).kind == "night"
    same = Labels(system="box", baseline="v1", head="v1", night_utc=LABELS.night_utc)
    assert to_row("s", same, cell).kind == "aa"
