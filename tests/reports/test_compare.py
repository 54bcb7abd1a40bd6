"""Comparing bundles: planted changes are called, the incomparable is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgebench.errors import SpecError
from edgebench.paired import percent
from edgebench.progress import SilentProgress
from edgebench.record import Record
from edgebench_reports.compare import compare_command, compare_html, notes
from edgebench_reports.comparison import Comparison, compare_sides, units
from edgebench_reports.entries import Submission
from edgebench_reports.sides import find_side

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(bundles: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a tree with one bundle whose kernels run at so many times their usual latency."""

    def made(
        name: str,
        int4: float = 1.0,
        fp16: float = 1.0,
        *,
        scenario: str = "single-stream",
        change: Callable[[Any], None] = lambda maker: None,
        **record: Any,
    ) -> Path:
        with monkeypatch.context() as patch:
            usual = {"fp16": 40_000_000, "int4": 10_000_000}
            scaled = {"fp16": int(usual["fp16"] * fp16), "int4": int(usual["int4"] * int4)}
            patch.setattr(bundles, "LATENCY_NS", scaled)
            maker = bundles.Maker(tmp_path / name, scenario=scenario)
        maker.record |= record
        change(maker)
        maker.write()
        return tmp_path / name

    return made


@pytest.fixture
def lookup(bundles: ModuleType, tmp_path: Path) -> Any:
    return bundles.Maker(tmp_path / "unused").lookup


def compared(lookup: Any, *trees: Path) -> list[Comparison]:
    progress = SilentProgress()
    return compare_sides(
        [find_side(str(tree), (), lookup=lookup, progress=progress) for tree in trees]
    )


def cell(comparison: Comparison, kernel: str = "int4") -> Any:
    return next(found for found in comparison.cells if found.kernel == kernel)


@pytest.mark.parametrize("scenario", ["single-stream", "offline"])
@pytest.mark.parametrize(
    ("factor", "said"), [(1.1, "SLOWER"), (0.9, "FASTER"), (1.0, "SAME"), (1.01, "SAME")]
)
def test_planted_changes_are_called(
    make: Make, lookup: Any, scenario: str, factor: float, said: str
) -> None:
    (found,) = compared(
        lookup, make("a", scenario=scenario), make("b", int4=factor, scenario=scenario)
    )
    int4 = cell(found)
    assert int4.verdict == said
    assert percent(int4.effect.estimate) == pytest.approx(100 * (factor - 1), abs=0.1)
    assert int4.visible is not None
    assert percent(int4.visible) == pytest.approx(2.0)
    assert cell(found, "fp16").verdict == "SAME"
    assert not found.across_hardware


def test_what_fp16_moved_is_no_change(make: Make, lookup: Any) -> None:
    """Both kernels 5 % slower on one machine with one version: the machine moved."""
    (found,) = compared(lookup, make("a"), make("b", int4=1.05, fp16=1.05))
    int4 = cell(found)
    assert int4.verdict != "SLOWER"
    assert percent(int4.limit) == pytest.approx(5, abs=0.1)
    assert "fp16 moved" in int4.limit_reason
    assert int4.speedups[0] == pytest.approx(int4.speedups[1], rel=1e-3)


def test_fp16_is_no_control_between_versions(make: Make, lookup: Any) -> None:
    def newer(maker: Any) -> None:
        maker.record["provenance"] = {**maker.record["provenance"], "tool_version": "0.2.0"}

    (found,) = compared(lookup, make("a"), make("b", int4=1.05, fp16=1.05, change=newer))
    assert cell(found).verdict == "SLOWER"
    assert ("versions", "EdgeBench", "0.1.0", "0.2.0") in {
        (d.topic, d.field, d.baseline, d.candidate) for d in found.differs
    }


def test_the_spread_between_runs_of_one_side_counts(
    make: Make, lookup: Any, tmp_path: Path
) -> None:
    make("a", run_id="run-1")
    make("a", int4=1.3, run_id="run-2")
    (found,) = compared(lookup, tmp_path / "a", make("b", int4=1.2))
    int4 = cell(found)
    assert int4.verdict != "FASTER"
    assert "between runs" in int4.limit_reason


def test_a_limit_of_some_cases_names_them(make: Make, lookup: Any, tmp_path: Path) -> None:
    make("a", run_id="run-1")
    make("a", int4=1.3, run_id="run-2")
    (found,) = compared(lookup, tmp_path / "a", make("b", int4=1.2))
    limits = [note for note in notes(found) if note.startswith("smallest change")]
    assert len(limits) == 2
    assert all(note.count("single-stream") == 1 for note in limits)
    (same,) = compared(lookup, make("c"), make("d"))
    (limit,) = [note for note in notes(same) if note.startswith("smallest change")]
    assert "single-stream" not in limit


def test_a_side_of_several_machines_is_not_ranked(make: Make, lookup: Any, tmp_path: Path) -> None:
    def larger(maker: Any) -> None:
        maker.system["cpu"]["model"] = "another CPU"
        maker.system["name"] = "Board-2"

    make("a", run_id="run-1")
    make("a", run_id="run-2", system="Board-2", change=larger)
    (found,) = compared(lookup, tmp_path / "a", make("b", int4=1.2))
    assert cell(found).verdict is None
    assert "the baseline has runs of several machines (Board-2, box): give a folder of one" in (
        cell(found).refusals
    )


def test_a_side_of_several_open_models_is_not_ranked(factory: ModuleType) -> None:
    from edgebench_reports.comparison import _mixed
    from edgebench_reports.sides import Run, Side

    runs = []
    for transform in ("prune:units=0.5", "nas:latency=3ms"):
        record = factory.submission({**factory.record_data(), "track": "open"}).record
        results = [one.model_copy(update={"transform": transform}) for one in record.results]
        own = record.model_copy(update={"results": results})
        runs.append(Run(path=Path("x"), record=own, system=factory.SYSTEM))
    case = runs[0].case
    side = Side(label="x", runs={case: runs[1]}, older={case: (runs[0],)}, refused=())
    assert "several models (nas:latency=3ms, prune:units=0.5)" in str(_mixed(side, case, "int4"))
    assert _mixed(Side(label="x", runs={case: runs[1]}, older={}, refused=()), case, "int4") is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"profile": "standard"}, "the profile differs"),
        ({"stamps": ["NON-COMPLIANT-DURATION", "SIMULATED"]}, "is simulated"),
    ],
)
def test_what_is_not_comparable_has_no_verdict(
    factory: ModuleType, change: dict[str, Any], why: str
) -> None:
    from edgebench_reports.comparison import incomparable
    from edgebench_reports.sides import Run

    sides = [
        Run(path=Path("x"), record=factory.submission(data).record, system=factory.SYSTEM)
        for data in (factory.record_data(), {**factory.record_data(), **change})
    ]
    assert any(why in reason for reason in incomparable(*sides, "int4"))
    assert incomparable(sides[0], sides[0], "int4") == []


def test_every_reason_for_no_rank_is_said(factory: ModuleType) -> None:
    from edgebench_reports.comparison import incomparable
    from edgebench_reports.sides import Run

    def run(data: dict[str, Any], system: Any = factory.SYSTEM) -> Run:
        return Run(path=Path("x"), record=factory.submission(data).record, system=system)

    good = factory.record_data()
    task = {**good, "workload": {**good["workload"], "scored_sha256": "f" * 64}}
    slow = {**factory.SYSTEM, "cpu": {**factory.SYSTEM["cpu"], "governor": "powersave"}}
    fast = {**factory.SYSTEM, "cpu": {**factory.SYSTEM["cpu"], "governor": "performance"}}
    cases = (
        (run(good), run(task), "the scored set differs"),
        (run(good, slow), run(good, fast), "one machine in two power modes"),
        (
            run(good),
            run(factory.edited(good, "int4", valid=False, invalid_reasons=["D-01: short"])),
            "the candidate is INVALID: D-01: short",
        ),
        (
            run(factory.edited(good, "int4", accuracy_passed=False)),
            run(good),
            "the baseline missed the accuracy gate",
        ),
    )
    for one, other, why in cases:
        assert any(why in reason for reason in incomparable(one, other, "int4")), why


def test_other_hardware_is_said_and_held_against_its_own_roofline(make: Make, lookup: Any) -> None:
    def larger(maker: Any) -> None:
        maker.system["cpu"]["model"] = "another CPU"
        for row in maker.ceilings:
            row["value"] *= 2
        maker.derive()

    (found,) = compared(
        lookup,
        make("a", scenario="offline"),
        make("b", int4=0.5, fp16=0.5, scenario="offline", change=larger),
    )
    assert found.across_hardware
    int4 = cell(found)
    assert int4.verdict == "FASTER"
    assert int4.roofline_ratio == pytest.approx(1.0, rel=0.01)
    assert ("hardware", "cpu.model") in {(d.topic, d.field) for d in found.differs}


def test_words_json_and_page(make: Make, lookup: Any, tmp_path: Path) -> None:
    trees = [str(make("a")), str(make("b", int4=1.1)), str(make("c", int4=0.8))]
    text, code = compare_command(trees, out=tmp_path / "out", lookup=lookup)
    assert code == 0
    assert text.index("What differs") < text.index("SLOWER") < text.index("FASTER")
    assert "could have seen" in text
    (b, c) = json.loads(compare_command(trees, form="json", lookup=lookup)[0])
    assert [one["cells"][1]["verdict"] for one in (b, c)] == ["SLOWER", "FASTER"]
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("<svg") == 4
    assert "not an MLPerf" in page or "no number here is an MLPerf result" in page


def test_nothing_comparable_is_exit_5(make: Make, lookup: Any) -> None:
    one, other = make("a"), make("b", scenario="offline")
    text, code = compare_command([str(one), str(other)], lookup=lookup)
    assert code == 5
    assert "no case is in both" in text
    assert "only in" in text


def test_a_run_is_found_by_its_id(make: Make, lookup: Any) -> None:
    tree, other = make("a", run_id="run-7"), make("b", int4=1.1)
    text, _ = compare_command(["run-7", str(other)], trees=[tree], lookup=lookup)
    assert "SLOWER" in text
    record = json.loads(next(tree.rglob("record.json")).read_text())
    anchor = Submission(record=Record.model_validate_json(json.dumps(record))).anchor
    assert "SLOWER" in compare_command([anchor, str(other)], trees=[tree], lookup=lookup)[0]
    bundle = next(tree.rglob("record.json")).parent
    assert "SLOWER" in compare_command([str(bundle), str(other)], lookup=lookup)[0]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["only"], "expected a baseline"),
        (["nowhere", "nowhere"], "no folder and no run"),
        (["empty", "empty"], "got none"),
    ],
)
def test_bad_names(
    names: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lookup: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=why):
        compare_command(names, lookup=lookup)
    with pytest.raises(SpecError, match="format"):
        compare_command(["a", "b"], form="xml", lookup=lookup)


def test_a_side_of_refused_bundles_says_why(make: Make, lookup: Any) -> None:
    good, broken = make("a"), make("b")
    next(broken.rglob("samples.jsonl")).write_text("{}\n")
    with pytest.raises(SpecError, match=r"only refused ones .*S-03"):
        compare_command([str(good), str(broken)], lookup=lookup)


def test_hostile_words_stay_text(factory: ModuleType) -> None:
    from edgebench_reports.differs import Difference

    found = Difference(topic="host", field=factory.ATTACK, baseline=factory.ATTACK, candidate="")
    comparison = Comparison(
        baseline=factory.ATTACK,
        candidate=factory.ATTACK,
        across_hardware=False,
        differs=(found,),
        cells=(),
        only_baseline=(),
        only_candidate=(),
    )
    page = compare_html([comparison])
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script" in page


def test_units_are_medians_of_neighbours() -> None:
    assert units([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    many = units([float(n) for n in range(64)])
    assert len(many) == 32
    assert many[0] == 0.5
