"""A calibrated transform end to end: it runs, its answers count, and its provenance is verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import bench

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native, pytest.mark.slow]


@pytest.mark.parametrize(
    ("transform", "kernel"),
    [
        ("prune:units=0.25 + prune:wanda=2:4 + rtn", "int4"),
        ("prune:layers=1", "open"),
        ("distill + rtn", "int4"),
    ],
)
def test_the_open_track_runs_and_is_checked(transform: str, kernel: str, tmp_path: Path) -> None:
    options = ("--track", "open", "--workload", "assistant", "--scenario", "single-stream")
    chosen = ("--budget", "30", "--transform", transform, "--format", "json")
    said = bench("run", *options, *chosen, cwd=tmp_path)
    assert said.code == 0, said.err
    fp16, candidate = said.rows
    assert (fp16["kernel"], candidate["kernel"]) == ("fp16", kernel)
    assert candidate["accuracy_passed"] is None
    assert candidate["weight_bytes"] < fp16["weight_bytes"]
    (bundle,) = (path.parent for path in tmp_path.glob("submissions/open/*/*/*/*/*/record.json"))
    record = json.loads((bundle / "record.json").read_text())
    assert any(reason.startswith("W-07") for reason in record["not_closed"])
    ledger = json.loads((bundle / "ledger.json").read_text())
    assert ledger["reference_sha256"] == ledger["steps"][0]["before_sha256"]
    assert ledger["open_model"]["params_total"] < 5_246_208
    checked = bench("check", bundle, cwd=tmp_path)
    assert checked.code == 0, checked.out + checked.err


@pytest.mark.parametrize("transform", ["awq", "gptq", "awq+gptq", "smoothquant"])
def test_run_and_check(transform: str, tmp_path: Path) -> None:
    options = ("--workload", "assistant", "--scenario", "single-stream", "--budget", "30")
    said = bench("run", *options, "--transform", transform, "--format", "json", cwd=tmp_path)
    assert said.code == 0, said.err
    fp16, int4 = said.rows
    assert fp16["valid"]
    assert (int4["transform"], int4["valid"]) == (transform, True), int4["invalid_reasons"]
    assert int4["accuracy_passed"]
    assert int4["call_nll"] < 1.5 * fp16["call_nll"]
    (bundle,) = (path.parent for path in tmp_path.glob("submissions/*/*/*/*/*/*/record.json"))
    ledger = json.loads((bundle / "ledger.json").read_text())
    assert [step["transform"] for step in ledger["steps"]] == transform.split("+")
    assert (bundle / "folded.safetensors").is_file() == (transform != "gptq")
    record = json.loads((bundle / "record.json").read_text())
    weights = record["results"][1]["timed_weights"]
    assert weights["model_sha256"] == ledger["steps"][-1]["after_sha256"]
    assert weights["before_sha256"] == weights["after_sha256"]
    checked = bench("check", bundle, cwd=tmp_path)
    assert checked.code == 0, checked.out + checked.err
