"""`bench run --dry-run`: a plan of the real machine, an exit code, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import bench

pytestmark = pytest.mark.e2e

PLAN = ("run", "--dry-run", "--quiet")
SMALL = (*PLAN, "--workload", "assistant")


def test_a_plan_says_what_a_run_would_do_and_writes_nothing(tmp_path: Path) -> None:
    said = bench(*SMALL, "--profile", "official", "--budget", "9h", cwd=tmp_path)
    assert said.code == 0, said.err
    for part in (
        "a plan, no measurement: nothing was written",
        "stamps: none",
        "energy: ",
        "1024 queries, 600 s, whole passes",
        "6 rounds of all samples, 600 s, whole passes",
        "p99 at 99 % confidence",
        "queries of each kernel",
        "bundle: submissions/closed/unaffiliated/",
        "| workload | load | quantize | pack and probe |",
        "min against a budget of 540.00",
    ):
        assert part in said.out, said.out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_as_json_sums_up(tmp_path: Path) -> None:
    said = bench(*SMALL, "--scenario", "single", "--format", "json", "--budget", "9h", cwd=tmp_path)
    assert said.code == 0, said.err
    plan = json.loads(said.out)
    (workload,) = plan["workloads"]
    (run,) = workload["scenarios"]
    assert plan["stamps"] == ["NON-COMPLIANT-DURATION"]
    assert run["queries"]["fp16"] == run["queries"]["int4"] >= 512
    parts = ("measure_s", "accuracy_s", "likelihood_s", "ceilings_s")
    assert run["total_s"] == pytest.approx(sum(run[name] for name in parts))
    before = ("load_s", "quantize_s", "pack_and_probe_s")
    total_s = run["total_s"] + sum(workload[name] for name in before)
    assert plan["total_s"] == pytest.approx(total_s)
    low, high = run["expected_speedup_ci95"]
    assert 0 < low < high


def test_what_does_not_fit_is_said_with_the_budget_that_would_do(tmp_path: Path) -> None:
    said = bench(*SMALL, "--profile", "official", "--budget", "5s", cwd=tmp_path)
    assert said.code == 4, said.err  # a run of it would measure nothing
    assert said.out.count("would do") == 2


def test_a_transform_that_learns_is_begun_and_extrapolated(tmp_path: Path) -> None:
    options = ("--scenario", "single", "--transform", "gptq:samples=8", "--budget", "9h")
    said = bench(*SMALL, *options, cwd=tmp_path)
    assert said.code == 0, said.err
    assert "speed probed on rtn" in said.out


def test_a_model_that_is_not_generated_is_not_probed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    options = (*PLAN, "--workload", "assistant@300m")
    said = bench(*options, cwd=tmp_path, EDGEBENCH_CACHE=str(cache))
    assert said.code == 4, said.err
    assert "its model is not generated yet (" in said.out
    assert not cache.exists()


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--format", "csv"), 2, "format of a plan"),
        (("--budget", "0"), 2, "more than nothing, got '0'"),
        (("--budget", "soon"), 2, "such as 20m, 1h30m or 90s"),
        (("--out", "file/tree"), 4, "is a file"),
    ],
)
def test_what_a_run_refuses_a_plan_refuses(
    tmp_path: Path, options: tuple[str, ...], code: int, word: str
) -> None:
    (tmp_path / "file").write_text("")
    said = bench(*SMALL, *options, cwd=tmp_path)
    assert (said.code, word in said.err) == (code, True), said.err
