"""The self-test: blind plants are called at the rates a simulated machine must give; it resumes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgebench.errors import BundleError
from edgebench.nightly import selftest_run
from edgebench.nightly.history import read_history
from edgebench.nightly.selftest import (
    Extra,
    Plan,
    Probe,
    clopper_pearson,
    read_rounds,
    run_selftest,
    score,
)
from edgebench.nightly.selftest_run import aa_rows, as_json, markdown
from edgebench.progress import SilentProgress

CELLS = ["a", "b", "c", "d"]


class Simulated:
    """A machine that does the extra work it is asked for, with some noise."""

    def __init__(self, noise: float = 0.01) -> None:
        self.draw, self.noise, self.count = random.Random(8), noise, 0

    def __call__(self, is_head_first: bool, baseline: Extra, head: Extra) -> Mapping[str, float]:
        self.count += 1
        return {
            cell: math.log((1 + more) / (1 + baseline[cell]) * self.draw.gauss(1, self.noise))
            for cell, more in head.items()
        }


def run(plan: Plan, path: Path, machine: Simulated) -> list:  # type: ignore[type-arg]
    return run_selftest(plan, CELLS, machine, path, SilentProgress())


def test_rates_of_a_known_machine(tmp_path: Path) -> None:
    plan = Plan(aa=10, planted=40, bad_nights=3, creeps=2, seed=1, limit_percent=3.0)
    rates = {rate.plant: rate for rate in score(run(plan, tmp_path / "r.jsonl", Simulated()))}
    assert rates["none"].called == 0
    assert rates["none"].of >= 40
    for plant in ("+5 %", "+10 %", "-5 %"):
        assert rates[plant].called >= 0.95 * rates[plant].of, plant
    assert rates["variance"].called == 0
    assert rates["bad night"].called == 0
    assert rates["creep"].called == rates["creep"].of == 8
    assert sum(rate.of for rate in rates.values()) == 4 * 55


def test_it_goes_on_where_it_was_and_never_measures_twice(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    short = Plan(aa=2, planted=0, bad_nights=0, creeps=0)
    run(short, path, Simulated())
    first = path.read_bytes()
    again = Simulated()
    run(short, path, again)
    assert again.count == 0
    assert path.read_bytes() == first
    run(Plan(aa=2, planted=1, bad_nights=0, creeps=0), path, Simulated())
    assert path.read_bytes().startswith(first)
    assert {row.round for row in read_rounds(path)} == {0, 1, 2}


def test_rounds_of_another_plan_or_broken_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run(Plan(aa=1, planted=0, bad_nights=0, creeps=0), path, Simulated())
    with pytest.raises(BundleError, match="name another --out"):
        run(Plan(aa=0, planted=1, bad_nights=0, creeps=0), path, Simulated())
    path.write_text("{}\n")
    with pytest.raises(BundleError, match=r"r\.jsonl:1"):
        read_rounds(path)


def test_labels_are_drawn_from_the_seed_alone(tmp_path: Path) -> None:
    plans = [Plan(aa=0, planted=3, bad_nights=0, creeps=0, seed=seed) for seed in (1, 1, 2)]
    plants = [
        [row.plant for row in run(plan, tmp_path / f"{number}.jsonl", Simulated())]
        for number, plan in enumerate(plans)
    ]
    assert plants[0] == plants[1] != plants[2]


def test_bounds_are_clopper_and_pearsons() -> None:
    # The upper bound u of 0 of n solves (1 - u)^n = 0.05.
    assert clopper_pearson(0, 473)[1] == pytest.approx(1 - 0.05 ** (1 / 473))
    assert clopper_pearson(0, 473)[1] < 0.01
    assert clopper_pearson(10, 10) == (pytest.approx(0.05 ** (1 / 10)), 1.0)
    assert clopper_pearson(0, 10)[0] == 0.0


def test_words_and_aa_rows(tmp_path: Path) -> None:
    rows = run(Plan(aa=2, planted=1, bad_nights=0, creeps=0), tmp_path / "r", Simulated())
    text = markdown(score(rows), rows)
    assert "| nothing: a false alarm | 0 |" in text
    assert '"upper_bound"' in as_json(score(rows), rows)
    kept = aa_rows(rows)
    assert len(kept) == 8
    assert {row.kind for row in kept} == {"aa"}


def test_an_interrupted_self_test_adds_what_it_saw_to_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [cell.name for cell in selftest_run.CELLS]

    def interrupted(threads: int | None) -> Probe:
        machine, left = random.Random(8), 35  # pairs: a round takes at most 32

        def probe(is_head_first: bool, baseline: Extra, head: Extra) -> Mapping[str, float]:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return {cell: machine.gauss(0, 0.001) for cell in head}

        return probe

    monkeypatch.setattr(selftest_run, "fresh_probe", interrupted)
    options = selftest_run.SelftestOptions(
        out=tmp_path, aa=48, planted=0, bad_nights=0, creeps=0, seed=0, limit=5.0,
        history=tmp_path / "h.jsonl",
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        selftest_run.selftest_command(options, form="md", progress=SilentProgress())
    seen, faults = read_history(tmp_path / "h.jsonl")
    assert not faults
    assert len(seen) == len(read_rounds(tmp_path / "rounds.jsonl")) > 0
    assert {row.cell for row in seen} == set(names)
