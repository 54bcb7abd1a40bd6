"""The suite file and the arms: what is wrong is said, with the right exit code."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgebench.errors import DeviceUnavailable, RunFailed, SpecError
from edgebench.nightly import arms
from edgebench.nightly.arms import Arm, find_arm, run_workload
from edgebench.nightly.pairs import Side, probe_pair
from edgebench.nightly.probe import CONTROL, answers
from edgebench.nightly.suite import KernelCell, WorkloadCell, read_suite

GOOD = 'name = "s"\n[[kernels]]\npath = "w4a16"\nn = 64\nk = 64\n'
CELL = KernelCell(path="w4a16", n=64, k=64)


def test_a_suite_is_read(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(GOOD + '[[workloads]]\nworkload = "assistant"\nscenario = "offline"\n')
    suite = read_suite(path)
    assert suite.names == ["w4a16 64x64 m1", "assistant offline"]
    assert suite.looks == [8, 16, 32]
    assert len(read_suite(root / "docs" / "nightly" / "suite.toml").names) >= 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name = ", "expected TOML"),
        ('name = "s"', "a .* cell, got none"),
        (GOOD.replace("w4a16", "w3"), "path"),
        (GOOD + "colour = 1\n", "colour"),
        (GOOD + GOOD.partition("\n")[2], "twice"),
        ("looks = [32, 8]\n" + GOOD, "looks that grow"),
        ("minimum_effect_percent = 0.1\n" + GOOD, "minimum_effect_percent"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=why):
        read_suite(path)
    with pytest.raises(SpecError, match="No such file"):
        read_suite(tmp_path / "none.toml")


def test_arms_are_found_or_refused(tmp_path: Path) -> None:
    assert find_arm("self").python == Path(sys.executable)
    assert find_arm(sys.executable).python == Path(sys.executable)
    with pytest.raises(SpecError, match="expected self, git:REV"):
        find_arm(str(tmp_path))


def test_a_baseline_that_is_no_revision_is_exit_3() -> None:
    with pytest.raises(DeviceUnavailable, match="expected a baseline at git:no-such-revision"):
        find_arm("git:no-such-revision")


def test_a_baseline_that_cannot_be_installed_is_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path))

    def fails(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code = 1 if "pip" in command else 0
        return subprocess.CompletedProcess(command, code, "", "noise\nERROR: no such version\n")

    monkeypatch.setattr(arms.subprocess, "run", fails)
    with pytest.raises(DeviceUnavailable, match="ERROR: no such version; install it by hand"):
        find_arm("version:99.0")


def test_a_revision_is_a_url_that_every_pip_reads() -> None:
    """Older pips refuse `name @ git+file://`, whose URL has no host."""
    found = arms._from_git("HEAD")
    assert found.startswith("git+file:///")
    assert len(found.rpartition("@")[2]) == 40


def test_the_error_is_said_and_not_the_hint_behind_it() -> None:
    assert arms.last_words("ERROR: no compiler\nnote: see above\n") == "ERROR: no compiler"
    assert arms.last_words("one\ntwo\n\n") == "two"
    assert arms.last_words("") == "no word"


def test_another_arm_keeps_its_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_KERNELS_LIBRARY", "/head.so")
    monkeypatch.setenv("LANG", "C")
    other = arms.own_environment(Arm(label="v1", python=Path(sys.executable)))
    assert "EDGEBENCH_KERNELS_LIBRARY" not in other
    assert other["LANG"] == "C"
    assert arms.own_environment(find_arm("self"))["EDGEBENCH_KERNELS_LIBRARY"] == "/head.so"


@pytest.fixture
def speaker(tmp_path: Path) -> Path:
    """An interpreter that says what a test wrote into `said`, and exits with `code`."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\ncat {tmp_path}/said\nexit $(cat {tmp_path}/code)\n")
    path.chmod(0o755)
    (tmp_path / "code").write_text("0")
    return path


def pair(baseline: Arm, head: Arm) -> dict[str, float]:
    return probe_pair(Side(arm=baseline), Side(arm=head), [CELL], is_head_first=True, calls={})


def test_an_arm_that_does_not_answer_is_a_failed_run(speaker: Path) -> None:
    arm, folder = Arm(label="old", python=speaker), speaker.parent
    (folder / "said").write_text("no json\n")
    with pytest.raises(RunFailed, match="expected JSON of old"):
        pair(arm, arm)
    (folder / "said").write_text("")
    (folder / "code").write_text("3")
    with pytest.raises(RunFailed, match="expected old to measure, got exit 3"):
        pair(arm, arm)
    with pytest.raises(RunFailed, match="expected gone to answer"):
        pair(Arm(label="gone", python=folder / "nothing"), arm)


def test_an_arm_that_dies_between_sweeps_says_its_last_words(tmp_path: Path) -> None:
    path = tmp_path / "python"
    times = json.dumps({CELL.name: 5.0, CONTROL: 5.0})
    path.write_text(
        f"#!/bin/sh\nread a\necho '{{\"calls\": {{}}}}'\nread a\necho '{times}'\n"
        "echo 'error: out of memory' >&2\nexit 9\n"
    )
    path.chmod(0o755)
    arm = Arm(label="dying", python=path)
    with pytest.raises(RunFailed, match="expected dying to measure, got exit 9: error: out of mem"):
        pair(arm, arm)


def test_a_workload_gives_both_kernels(speaker: Path) -> None:
    arm, folder = Arm(label="old", python=speaker), speaker.parent
    first = '{"kernel": "%s", "samples_per_s": 4.0, "latency_p50_ms": 2.0}'
    rows = f'[{first}, {{"kernel": "int4", "samples_per_s": 8.0, "latency_p50_ms": 1.0}}]'
    (folder / "said").write_text(rows % "fp16")
    cell = WorkloadCell(workload="assistant", scenario="single-stream")
    assert run_workload(arm, cell) == {"fp16": 2e6, "int4": 1e6}
    offline = WorkloadCell(workload="assistant", scenario="offline")
    assert run_workload(arm, offline) == {"fp16": 0.25e9, "int4": 0.125e9}
    (folder / "said").write_text(rows % "int4")
    with pytest.raises(RunFailed, match="expected times of fp16 and int4"):
        run_workload(arm, cell)


@pytest.mark.native
def test_extra_work_is_really_done() -> None:
    """A clock that counts the calls made: what is planted shows as more calls, not as a number."""
    from edgebench.nightly import probe

    made = {"count": 0}
    real = probe._contenders

    def counted(request: object) -> object:
        def wrap(run: object) -> object:
            def one() -> None:
                made["count"] += 1

            return one

        return {name: wrap(run) for name, run in real(request).items()}  # type: ignore[arg-type]

    def sweep(**changes: object) -> Mapping[str, float]:
        request = {"cells": [CELL.model_dump()], "calls": {CELL.name: 100, CONTROL: 100}, **changes}
        said = list(answers([json.dumps(request), "{}"], clock=lambda: made["count"] * 1000))
        assert said[0]["calls"] == request["calls"]
        return said[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "_contenders", counted)
        assert sweep() == {CELL.name: 1000, CONTROL: 1000}
        assert sweep(extra={CELL.name: 0.05}) == {CELL.name: 1050, CONTROL: 1000}


@pytest.mark.native
def test_real_processes_answer_and_show_extra_work() -> None:
    calls: dict[str, int] = {}
    own = find_arm("self")
    found = probe_pair(
        Side(arm=own),
        Side(arm=own, extra={CELL.name: 3.0}),
        [CELL],
        is_head_first=False,
        calls=calls,
        threads=1,
    )
    assert found.keys() == calls.keys() == {CELL.name, CONTROL}
    assert all(count >= 1 for count in calls.values())
    assert found[CELL.name] > math.log(2)  # four times the work
