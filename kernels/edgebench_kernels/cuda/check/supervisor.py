"""Runs the stages one by one, each in a process that may die, and writes what there is after each.

A stage that takes too long is ended; one whose process dies is begun again behind the item that
killed it. Nothing here imports torch or touches the GPU.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgebench_kernels.cuda.check import events
from edgebench_kernels.cuda.check.events import INCOMPLETE, SKIPPED, Item
from edgebench_kernels.cuda.check.stages import LOUD, PREPARE, PREPARED, Stage, limit_s

ROOT = Path(__file__).parents[4]
"""The checkout: kernels/edgebench_kernels/cuda/check lies in it."""

POLL_S = 0.25
REFRESH_S = 10.0
GRACE_S = 3.0
OUTPUT_LIMIT = 1500
GATE = ("environment", "gpu")
"""The item without which no stage behind it is begun."""


@dataclass(slots=True)
class Outcome:
    """A stage as it stands; text: why it has no items, or what its process said when it died."""

    stage: Stage
    status: str
    items: list[Item] = field(default_factory=list)
    text: str = ""
    took_s: float = 0.0
    limit_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Check:
    """A run of stages. publish: is given all outcomes whenever there is something new."""

    stages: tuple[Stage, ...]
    work: Path
    budget_s: float
    publish: Callable[[Sequence[Outcome]], None]
    command: Callable[[Stage, Path, Path, float], list[str]] | None = None
    clock: Callable[[], float] = time.monotonic
    outcomes: list[Outcome] = field(default_factory=list)
    _began: float = 0.0
    _beside: Running | None = None

    def run(self) -> None:
        """All stages; whatever ends this, no process of theirs stays behind."""
        self._began = self.clock()
        self.publish(self.outcomes)
        try:
            for index, stage in enumerate(self.stages):
                self._run_stage(index, stage)
                self.publish(self.outcomes)
        finally:
            self._finish_beside(0.0)
            self.publish(self.outcomes)

    def left_s(self) -> float:
        """Of the budget."""
        return self.budget_s - (self.clock() - self._began)

    def _run_stage(self, index: int, stage: Stage) -> None:
        if reason := self._closed():
            self.outcomes.append(Outcome(stage, SKIPPED, text=reason))
            return
        is_needed = any(later.name in PREPARED for later in self.stages[index:])
        if stage.name != LOUD[0] and self._beside is None and is_needed:
            self._begin_beside()
        if stage.name not in LOUD:
            self._finish_beside(
                max(0.0, self.left_s() - sum(s.least_s for s in self.stages[index:]))
            )
        given = limit_s(self.stages, index, self.left_s())
        if given is None:
            text = f"{self.left_s():.0f} s were left, it takes {stage.least_s:.0f}"
            self.outcomes.append(Outcome(stage, SKIPPED, text=text))
            return
        outcome = Outcome(stage, INCOMPLETE, limit_s=given)
        self.outcomes.append(outcome)
        running = self._start(outcome)
        refreshed = self.clock()
        try:
            while running.poll():
                time.sleep(POLL_S)
                if self.clock() - refreshed > REFRESH_S:
                    refreshed = self.clock()
                    self.publish(self.outcomes)
        except BaseException:
            running.end("the check was ended")
            raise

    def _closed(self) -> str | None:
        """Why no stage is begun any more."""
        for outcome in self.outcomes:
            if outcome.stage.name == GATE[0]:
                found = {item.name: item for item in outcome.items}
                gate = found.get(GATE[1])
                if gate is None:
                    return f"no GPU to check: the first stage ended early. {outcome.text}"
                if gate.status != events.PASSED:
                    return f"no GPU to check: {gate.text}"
        return None

    def _begin_beside(self) -> None:
        given = min(PREPARE.limit_s, self.left_s())
        outcome = Outcome(PREPARE, INCOMPLETE, limit_s=given)
        self.outcomes.append(outcome)
        self._beside = self._start(outcome)

    def _finish_beside(self, longest_s: float) -> None:
        """Wait for PREPARE, and end it if that takes too long."""
        if self._beside is None:
            return
        until = self.clock() + longest_s
        while self._beside.poll():
            if self.clock() >= until:
                self._beside.end("it was still running when a stage that times things began")
                break
            time.sleep(POLL_S)

    def _start(self, outcome: Outcome) -> Running:
        return Running(outcome, self.work, self.command or worker_command, self.clock)


class Running:
    """A stage's process, and those that go on for it."""

    def __init__(
        self,
        outcome: Outcome,
        work: Path,
        command: Callable[[Stage, Path, Path, float], list[str]],
        clock: Callable[[], float],
    ) -> None:
        self._outcome, self._work, self._command, self._clock = outcome, work, command, clock
        self._events = work / f"{outcome.stage.name}.jsonl"
        self._output = work / f"{outcome.stage.name}.log"
        self._began = clock()
        self._restarts = outcome.stage.restarts
        self._notes: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._begin()

    def _begin(self) -> None:
        left = self._outcome.limit_s - (self._clock() - self._began)
        command = self._command(self._outcome.stage, self._events, self._work, left)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment(self._work),
                start_new_session=True,
            )
        self._item_began = self._clock()
        self._item: str | None = None

    def poll(self) -> bool:
        """Whether it goes on; brings the outcome up to date."""
        if self._process is None:
            return False
        code = self._process.poll()
        took_s = self._clock() - self._began
        self._update(took_s)
        if code is not None:
            self._died(code)
        elif took_s > self._outcome.limit_s + GRACE_S:
            self.end(f"it was ended after {took_s:.0f} s")
        elif self._is_stuck():
            name = self._item or ""
            self._notes[name] = f"given up after {self._outcome.stage.item_limit_s:.0f} s"
            _end(self._process)
            self._died(-signal.SIGKILL)
        return self._process is not None

    def end(self, why: str) -> None:
        """Stop it now."""
        if self._process is not None:
            _end(self._process)
            self._process = None
            self._outcome.text = why
            self._update(self._clock() - self._began)

    def _died(self, code: int) -> None:
        left = self._outcome.limit_s - (self._clock() - self._began)
        self._process = None
        if code == 0:
            return
        if self._item is not None:
            self._notes.setdefault(self._item, f"the process ended with code {code}")
        self._outcome.text = f"exit code {code}: {_tail(self._output)}"
        if self._restarts > 0 and left > 1.0:
            self._restarts -= 1
            self._begin()
        else:
            self._update(self._clock() - self._began)

    def _update(self, took_s: float) -> None:
        items = events.read(self._events)
        current = items[-1].name if items and items[-1].status == INCOMPLETE else None
        if current != self._item:
            self._item, self._item_began = current, self._clock()
        for item in items:
            if item.status == INCOMPLETE and item.name in self._notes:
                item.text = self._notes[item.name]
        self._outcome.items, self._outcome.took_s = items, took_s
        self._outcome.status = events.status_of(items)
        has_died = self._process is None and bool(self._outcome.text)
        if has_died and self._outcome.status in (events.PASSED, events.PARTLY, SKIPPED):
            self._outcome.status = INCOMPLETE

    def _is_stuck(self) -> bool:
        longest = self._outcome.stage.item_limit_s
        is_in_item = longest is not None and self._item is not None
        return is_in_item and self._clock() - self._item_began > (longest or 0.0)


def worker_command(stage: Stage, events_file: Path, work: Path, seconds: float) -> list[str]:
    """The command of a stage's process."""
    room = "edgebench_kernels.cuda.check.worker"
    return [sys.executable, "-m", room, stage.name, str(events_file), str(work), f"{seconds:.1f}"]


def environment(work: Path) -> dict[str, str]:
    """Of the processes: the checkout's packages, and caches of their own."""
    names = ("harness", "workloads", "kernels", "kernels/perf", "reports")
    roots = [str(ROOT / name) for name in names]
    given = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*roots, *([given] if given else [])]),
        "EDGEBENCH_CACHE": str(work / "cache"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }


def work_folder() -> Path:
    """A new folder for what stages write; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix="gpu-check-"))


def remove(work: Path) -> None:
    """Remove the folder of a check."""
    shutil.rmtree(work, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-OUTPUT_LIMIT:].decode(errors="replace").strip()
    except OSError:
        return ""
