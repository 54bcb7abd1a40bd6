"""Stages as processes: they pass, fail, die, hang, and go on behind what killed them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgebench_kernels.cuda.check import events, supervisor
from edgebench_kernels.cuda.check.stages import Stage
from edgebench_kernels.cuda.check.supervisor import Check, Outcome, Running

HEAD = """
import os, sys, time
from pathlib import Path
from edgebench_kernels.cuda.check.events import Log, Unavailable
log = Log(Path(sys.argv[1]))
def unavailable(text):
    raise Unavailable(text)
"""
BODIES = {
    "passes": "log.item('one', lambda: {'x': 1})",
    "fails": "log.item('one', lambda: 1 / 0)\nlog.item('two', lambda: None)",
    "dies once": (
        "log.item('one', lambda: None)\nlog.item('two', lambda: os._exit(9))\n"
        "log.item('three', lambda: None)"
    ),
    "says nothing": "print('a traceback'); os._exit(3)",
    "hangs": "log.item('one', lambda: None)\nlog.item('two', lambda: time.sleep(600))\n"
    "log.item('three', lambda: None)",
    "has a gpu": "log.item('gpu', lambda: None)",
    "has no gpu": "log.item('gpu', lambda: unavailable('no driver'))",
}


def command(stage: Stage, file: Path, work: Path, seconds: float) -> list[str]:
    del work, seconds
    return [sys.executable, "-c", HEAD + BODIES[stage.room], str(file)]


def stage(name: str, body: str, **fields: float) -> Stage:
    given = {"limit_s": 100.0, "least_s": 1.0, **fields}
    return Stage(name=name, title=name, room=body, **given)  # type: ignore[arg-type]


class Clock:
    """Time that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def check_of(tmp_path: Path, *stages: Stage, budget_s: float = 1000.0) -> Check:
    return Check(
        stages=stages,
        work=tmp_path,
        budget_s=budget_s,
        publish=lambda outcomes: None,
        command=command,
    )


def statuses(outcome: Outcome) -> list[tuple[str, str]]:
    return [(item.name, item.status) for item in outcome.items]


def test_a_stage_that_fails_stops_none_behind_it(tmp_path: Path) -> None:
    published: list[list[str]] = []

    def publish(outcomes: Sequence[Outcome]) -> None:
        published.append([f"{one.stage.name} {one.status}" for one in outcomes])

    check = check_of(
        tmp_path, stage("a", "fails"), stage("b", "says nothing"), stage("c", "passes")
    )
    check.publish = publish
    check.run()
    a, b, c = check.outcomes
    assert statuses(a) == [("one", events.FAILED), ("two", events.PASSED)]
    assert "ZeroDivisionError" in a.items[0].text
    assert (b.status, b.items) == (events.INCOMPLETE, [])
    assert b.text == "exit code 3: a traceback"
    assert (c.status, c.items[0].data) == (events.PASSED, {"x": 1})
    assert ["a failed"] in published  # after the first stage there is something already
    assert published[-1] == ["a failed", "b incomplete", "c passed"]


def test_a_process_that_dies_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    check = check_of(tmp_path, stage("a", "dies once", restarts=1))
    check.run()
    [outcome] = check.outcomes
    assert statuses(outcome) == [
        ("one", events.PASSED),
        ("two", events.INCOMPLETE),
        ("three", events.PASSED),
    ]
    assert outcome.items[1].text == "the process ended with code 9"
    assert outcome.status == events.INCOMPLETE


def test_without_restarts_what_comes_behind_is_left_out(tmp_path: Path) -> None:
    check = check_of(tmp_path, stage("a", "dies once"))
    check.run()
    assert [item.name for item in check.outcomes[0].items] == ["one", "two"]


def running_until(tmp_path: Path, one: Stage, clock: Clock, item: str) -> tuple[Running, Outcome]:
    """A stage's process once it is in an item."""
    outcome = Outcome(one, events.INCOMPLETE, limit_s=one.limit_s)
    running = Running(outcome, tmp_path, command, clock)
    while not any(found.name == item for found in outcome.items):
        assert running.poll()
        time.sleep(0.01)
    return running, outcome


def test_a_stage_is_ended_when_its_time_is_over(tmp_path: Path) -> None:
    clock = Clock()
    running, outcome = running_until(tmp_path, stage("a", "hangs"), clock, "two")
    process = running._process
    assert process is not None
    clock.now = 104.0
    assert not running.poll()
    assert process.poll() is not None
    assert statuses(outcome) == [("one", events.PASSED), ("two", events.INCOMPLETE)]
    assert outcome.text == "it was ended after 104 s"


def test_an_item_that_takes_too_long_is_passed_over(tmp_path: Path) -> None:
    clock = Clock()
    one = stage("a", "hangs", item_limit_s=20.0, restarts=1)
    running, outcome = running_until(tmp_path, one, clock, "two")
    clock.now = 21.0
    while running.poll():
        time.sleep(0.01)
    assert statuses(outcome) == [
        ("one", events.PASSED),
        ("two", events.INCOMPLETE),
        ("three", events.PASSED),
    ]
    assert outcome.items[1].text == "given up after 20 s"


def test_nothing_is_begun_without_a_gpu(tmp_path: Path) -> None:
    check = check_of(tmp_path, stage("environment", "has no gpu"), stage("timing", "passes"))
    check.run()
    closed = check.outcomes[1]
    assert (closed.status, closed.items) == (events.SKIPPED, [])
    assert closed.text == "no GPU to check: no driver"


def test_nothing_is_begun_where_the_first_stage_says_nothing_of_a_gpu(tmp_path: Path) -> None:
    check = check_of(tmp_path, stage("environment", "says nothing"), stage("timing", "passes"))
    check.run()
    assert check.outcomes[1].text.startswith("no GPU to check: the first stage ended early.")


def test_a_stage_is_not_begun_with_too_little_time(tmp_path: Path) -> None:
    check = check_of(tmp_path, stage("a", "passes", least_s=30.0), budget_s=20.0)
    check.run()
    assert check.outcomes[0].status == events.SKIPPED
    assert check.outcomes[0].text == "20 s were left, it takes 30"


def test_an_interrupted_check_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = check_of(tmp_path, stage("a", "hangs"))
    started: list[int] = []

    def interrupted(self: Running) -> bool:
        assert self._process is not None
        started.append(self._process.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(Running, "poll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check.run()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
    assert check.outcomes[0].text == "the check was ended"


def test_preparation_runs_beside_and_ends_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PREPARE", stage("prepare", "passes"))
    names = ("environment", "kernels", "timing", "bench")
    bodies = {"environment": "has a gpu"}
    check = check_of(tmp_path, *(stage(name, bodies.get(name, "passes")) for name in names))
    check.run()
    order = [outcome.stage.name for outcome in check.outcomes]
    assert order == ["environment", "prepare", "kernels", "timing", "bench"]
    assert {outcome.status for outcome in check.outcomes} == {events.PASSED}
    ended = {name: (tmp_path / f"{name}.jsonl").stat().st_mtime_ns for name in order}
    assert ended["prepare"] <= ended["timing"]


def test_preparation_is_left_out_where_nobody_needs_it(tmp_path: Path) -> None:
    check = check_of(tmp_path, stage("kernels", "passes"), stage("timing", "passes"))
    check.run()
    assert [outcome.stage.name for outcome in check.outcomes] == ["kernels", "timing"]
