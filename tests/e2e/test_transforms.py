"""A calibrated transform end to end: it runs, its answers count, and its provenance is verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import bench

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native, pytest.mark.slow]


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
