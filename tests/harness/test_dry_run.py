"""A plan where nothing can be probed: memory, and what the exit code foresees."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from edgebench import dry_run, dry_run_text
from edgebench.dry_run import PlannedRun, StageClock, WorkloadPlan, plan_run
from edgebench.progress import SilentProgress
from edgebench.spec import RunOptions, parse_run


class FullTarget:
    """A machine on which no model fits."""

    def errors(self) -> Any:
        return nullcontext()

    def prepare(self, *_: object) -> None:
        return None

    def described(self, system: Any) -> Any:
        return system

    def memory_shortage(self, *_: object) -> str:
        return "it needs about 9 GB of memory and 1 GB are free"


def test_a_model_that_does_not_fit_is_not_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "open_target", lambda backend: FullTarget())
    spec = parse_run(RunOptions(workload="assistant", out=tmp_path / "tree", device="cpu"))
    plan = plan_run(spec, SilentProgress())
    assert plan.exit_code == 4
    (workload,) = plan.workloads
    assert workload.notes == ("not probed",)
    assert [run.obstacle for run in workload.scenarios] == [
        "it needs about 9 GB of memory and 1 GB are free"
    ] * 2
    for form in dry_run_text.FORMATS.values():
        assert "9 GB of memory" in form(plan)
    assert list(tmp_path.iterdir()) == []


def test_what_is_skipped_costs_nothing() -> None:
    skipped = PlannedRun(scenario="offline", forecast=None, obstacle="no room")
    assert WorkloadPlan(name="w", load_s=1.0, pack_s=2.0, scenarios=(skipped,)).total_s == 3.0


def test_a_stage_is_timed_and_may_be_ended() -> None:
    seen: list[tuple[str, int, int]] = []

    def enough(title: str, done: int, total: int, so_far_s: float) -> None:
        assert so_far_s >= 0
        seen.append((title, done, total))
        if done == 2:
            raise InterruptedError

    clock = StageClock(SilentProgress(), enough=enough)

    def work() -> None:
        with clock.stage("work") as update:
            for done in (1, 2, 3):
                update(done, 3)

    with pytest.raises(InterruptedError):
        work()
    assert seen == [("work", 1, 3), ("work", 2, 3)]
    assert clock.took_s["work"] >= 0
