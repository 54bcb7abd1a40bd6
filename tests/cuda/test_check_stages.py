"""The plan of a GPU check: its stages, their time, what they tell, and what bars make of it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from edgebench_kernels.cuda.check import (
    bars,
    command,
    events,
    samples,
    stages,
    summary,
    tables,
    worker,
)
from edgebench_kernels.cuda.check.events import Failed, Log, Skipped, Unavailable
from edgebench_kernels.cuda.check.stages import STAGES, Stage, limit_s
from edgebench_kernels.cuda.check.supervisor import Outcome

A, B, C = (
    Stage(name=name, title=name, room="", limit_s=limit, least_s=least)
    for name, limit, least in (("a", 60, 10), ("b", 30, 20), ("c", 50, 5))
)
THREE = (A, B, C)


# ------------------------------------------------------------------------------------------ stages


def test_all_stages_can_begin_within_nine_minutes() -> None:
    assert sum(stage.least_s for stage in STAGES) <= 510 <= 540
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert all(stage.least_s <= stage.limit_s for stage in STAGES)


@pytest.mark.parametrize(
    ("index", "left_s", "expected"),
    [
        (0, 200, 60),  # plenty: its own limit
        (0, 60, 35),  # what the others need at least is kept
        (0, 30, 30),  # too little for all: the first ones count more
        (0, 9, None),
        (1, 21, 21),
        (2, 100, 50),
        (2, 4, None),
    ],
)
def test_time_of_a_stage(index: int, left_s: float, expected: float | None) -> None:
    assert limit_s(THREE, index, left_s) == expected


def test_stages_are_chosen_by_name_in_the_tables_order() -> None:
    assert stages.chosen(None) == STAGES
    assert [stage.name for stage in stages.chosen("timing, environment")] == [
        "environment",
        "timing",
    ]
    with pytest.raises(ValueError, match=r"out of environment, .*, got 'speed'"):
        stages.chosen("speed")


# ------------------------------------------------------------------------------------------ events


def raises(error: BaseException) -> None:
    raise error


class CudaMemoryError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (Unavailable("no NVML"), events.UNAVAILABLE, "no NVML"),
        (Skipped("not installed"), events.SKIPPED, "not installed"),
        (ModuleNotFoundError("x", name="pydantic"), events.UNAVAILABLE, "pydantic is missing"),
        (CudaMemoryError("out of memory"), events.UNAVAILABLE, "out of memory"),
        (Failed("wrong", {"error": 2.0}), events.FAILED, "wrong"),
        (AssertionError("first at [0]"), events.FAILED, "first at [0]"),
    ],
)  # fmt: skip
def test_what_comes_of_an_item(tmp_path: Path, error: Exception, status: str, text: str) -> None:
    log = Log(tmp_path / "events")
    assert log.item("one", lambda: raises(error))
    assert log.item("two", lambda: {"speed": 3})
    one, two = events.read(tmp_path / "events")
    assert (one.status, two.status) == (status, events.PASSED)
    assert text in one.text
    assert one.data == getattr(error, "data", {})
    assert two.data == {"speed": 3}


def test_an_item_is_not_tried_twice_and_a_killed_one_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "events"
    log = Log(path)
    with pytest.raises(KeyboardInterrupt):
        log.item("killer", lambda: raises(KeyboardInterrupt()))
    again = Log(path)
    assert again.status("killer") == events.INCOMPLETE
    assert not again.item("killer", lambda: raises(AssertionError("tried again")))
    assert again.item("next", lambda: None)
    assert [item.status for item in events.read(path)] == [events.INCOMPLETE, events.PASSED]


def test_snapshots_stay_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events"
    log = Log(path)

    def measure() -> None:
        log.data(rounds=7)
        log.data(rounds=14, nan=float("nan"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.item("table", measure)
    with path.open("a") as file:
        file.write('{"event": "end", "item": "tab')
    [item] = events.read(path)
    assert item.status == events.INCOMPLETE
    assert item.data == {"rounds": 14, "nan": None}


def test_a_lost_gpu_ends_the_process_behind_its_item(tmp_path: Path) -> None:
    log = Log(tmp_path / "events", is_alive=lambda: False)
    assert log.item("fine", lambda: None)
    with pytest.raises(SystemExit) as left:
        log.item("fault", lambda: raises(RuntimeError("illegal address")))
    assert left.value.code == events.EXIT_LOST
    assert [item.status for item in events.read(tmp_path / "events")] == [
        events.PASSED,
        events.FAILED,
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), events.INCOMPLETE),
        ((events.PASSED, events.SKIPPED), events.PASSED),
        ((events.SKIPPED,), events.SKIPPED),
        ((events.PASSED, events.UNAVAILABLE), events.PARTLY),
        ((events.UNAVAILABLE, events.SKIPPED), events.UNAVAILABLE),
        ((events.PASSED, events.INCOMPLETE), events.INCOMPLETE),
        ((events.INCOMPLETE, events.FAILED, events.PASSED), events.FAILED),
    ],
)
def test_status_of_a_stage(found: tuple[str, ...], expected: str) -> None:
    assert events.status_of([events.Item(name=s, status=s) for s in found]) == expected


def test_what_fails_outside_of_items_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(worker.importlib, "import_module", gone)
    worker.main(["timing", str(tmp_path / "events"), str(tmp_path), "5"])
    [item] = events.read(tmp_path / "events")
    assert (item.name, item.status) == (worker.OUTSIDE, events.UNAVAILABLE)
    assert item.text == "the module torch is missing"


# ----------------------------------------------------------------------------------- samples, bars


def test_ratios_are_medians_of_each_rounds_own() -> None:
    found = samples.ratio([10, 20, 60], [5, 5, 20])
    assert found is not None
    assert (found.median, found.n) == (3.0, 3)  # 2, 4, 3: not 20 / 5
    assert found.iqr == pytest.approx(1.0)
    assert samples.ratio([], [1.0]) is None
    assert samples.sums([[1, 2], [10, 20]]) == [11, 22]
    assert samples.sums([[1, 2], []]) == []


@pytest.mark.parametrize("bar", bars.BARS, ids=lambda bar: bar.text)
def test_each_bar_is_reached_missed_or_not_measured(bar: bars.Bar) -> None:
    def verdict(value: float | None) -> str:
        found = {one.bar: one.verdict for one in bars.judge({bar.quantity: value})}
        others = {text for other, text in found.items() if other != bar}
        assert others == {bars.UNMEASURED}
        return found[bar]

    assert verdict(bar.least) == bars.REACHED
    assert verdict(bar.least - 1e-6) == bars.MISSED
    assert verdict(None) == bars.UNMEASURED


# ----------------------------------------------------------------------------------------- summary


def outcome(name: str, *items: events.Item, text: str = "") -> Outcome:
    stage = next(stage for stage in STAGES if stage.name == name)
    return Outcome(stage, events.status_of(list(items)), list(items), text)


def passed(name: str, **data: object) -> events.Item:
    return events.Item(name=name, status=events.PASSED, data=data)


OUTCOMES = [
    outcome("environment", passed("gpu", gpu_name="NVIDIA H100 80GB HBM3")),
    outcome(
        "timing",
        passed(
            "table",
            quantities={bars.ratio_name("w4a16", 1): 3.0, bars.ratio_name("w4a16", 16): 2.0},
            tables=[tables.table(("M", "us"), [[1, 12.3456], [16, None]], "Sum")],
        ),
    ),
    outcome("suite", events.Item(name="x", status=events.FAILED, text="wrong | numbers")),
]


def test_a_summary_holds_the_verdicts_and_the_tables() -> None:
    one = summary.document(OUTCOMES, {"seconds": 510.0})
    verdicts = {row["text"]: row["verdict"] for row in one["bars"]}
    assert verdicts["w4a16, M = 1, sum of four"] == bars.REACHED
    assert verdicts["w4a16, M = 16, sum of four"] == bars.MISSED
    assert verdicts["w4a16, M = 64, sum of four"] == bars.UNMEASURED
    text = summary.text(one)
    assert "| w4a16, M = 1, sum of four | 2.9 | 3 | x | reached |" in text
    assert "The bars are stated for NVIDIA H200; this is NVIDIA H100 80GB HBM3." in text
    assert "**Sum**\n\n| M | us |\n| --- | --- |\n| 1 | 12.35 |\n| 16 | - |" in text
    assert "- x: failed: wrong | numbers" in text
    assert "| suite | failed | 0 of 1 passed | 0 |" in summary.head(one)


def test_the_folder_has_three_files_from_the_beginning(tmp_path: Path) -> None:
    folder = summary.Folder(tmp_path / "out", {})
    folder.publish([])
    names = {summary.JSON, summary.MARKDOWN, summary.TAR}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    with tarfile.open(tmp_path / "out" / summary.TAR) as archive:
        assert archive.getnames() == []
    folder.publish(OUTCOMES)
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    document = json.loads((tmp_path / "out" / summary.JSON).read_text())
    assert document["gpu"] == "NVIDIA H100 80GB HBM3"


def test_bundles_are_kept_small_ones_first_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a", 30_000), ("b", 10), ("c", 20)):
        bundle = tmp_path / "tree" / name
        bundle.mkdir(parents=True)
        (bundle / "record.json").write_text("{}")
        (bundle / "power.csv").write_bytes(bytes(size))
    monkeypatch.setattr(summary, "TAR_LIMIT_BYTES", 20_480)
    folder = summary.Folder(tmp_path / "out", {})
    folder.keep_bundles(tmp_path / "tree")
    with tarfile.open(tmp_path / "out" / summary.TAR) as archive:
        kept = set(archive.getnames())
    assert kept == {f"{name}/{file}" for name in "bc" for file in ("record.json", "power.csv")}
    assert folder.bundles_left_out == ["a: no room in bundles.tar"]
    assert (tmp_path / "out" / summary.TAR).stat().st_size <= 20_480


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.exit_code(OUTCOMES[:2]) == command.OK
    assert command.exit_code(OUTCOMES) == command.FAILED
    closed = outcome("kernels", text="no GPU to check: no driver")
    assert command.exit_code([closed]) == command.NO_GPU
    assert "no driver" in capsys.readouterr().out
