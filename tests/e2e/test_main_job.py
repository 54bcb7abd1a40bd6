"""The main job end to end: run, check, leaderboard, on the shipped weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgebench.record import Row
from tests.e2e.conftest import MainJob, bench

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native]

CASES = {(s, k) for s in ("single-stream", "offline") for k in ("fp16", "int4")}


def test_run_prints_one_row_per_scenario_and_kernel(main_job: MainJob) -> None:
    assert main_job.said.code == 0, main_job.said.err
    rows = main_job.said.rows
    assert {(row["scenario"], row["kernel"]) for row in rows} == CASES
    assert all(set(row) == set(Row.model_fields) for row in rows)


def test_reference_answers_and_int4_keeps_its_answers(main_job: MainJob) -> None:
    for row in main_job.said.rows:
        assert row["valid"], row["invalid_reasons"]
        assert row["accuracy"] >= 0.96
        assert row["accuracy_passed"]
        assert row["call_nll"] > 0


def test_int4_reads_fewer_bytes_and_fp16_has_no_speedup(main_job: MainJob) -> None:
    rows = {(row["scenario"], row["kernel"]): row for row in main_job.said.rows}
    for scenario in ("single-stream", "offline"):
        assert rows[scenario, "fp16"]["speedup"] is None
        assert rows[scenario, "int4"]["speedup"] > 0
        ratio = rows[scenario, "int4"]["weight_bytes"] / rows[scenario, "fp16"]["weight_bytes"]
        assert 0.25 < ratio < 0.30  # 4 bits of 16, with scales, zeros and the packing's padding


def test_what_was_not_measured_is_null(main_job: MainJob) -> None:
    for row in main_job.said.rows:
        if row["scenario"] == "offline":
            assert row["latency_p90_ms"] is None
            assert row["ttft_p90_ms"] is None
        if row["energy"]["status"] == "unmeasured":
            assert row["energy"]["joules"] is None
            assert row["energy"]["reason"]
        assert row["percent_of_bandwidth"] is None  # the weights fit in the caches


def test_run_names_what_it_executed_on_and_how_to_repeat(main_job: MainJob) -> None:
    assert "executed on: CPU kernels" in main_job.said.err
    assert "to repeat: bench run --track closed" in main_job.said.err


@pytest.mark.parametrize("scenario", ["single-stream", "offline"])
def test_checker_accepts_the_bundle(main_job: MainJob, scenario: str) -> None:
    said = bench("check", main_job.bundles[scenario], cwd=main_job.folder)
    assert said.code == 0, said.out + said.err


def test_checker_refuses_a_faster_time(main_job: MainJob, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle" / main_job.bundles["offline"].name
    shutil.copytree(main_job.bundles["offline"], bundle)
    record = json.loads((bundle / "record.json").read_text())
    record["results"][1]["samples_per_s"] *= 1.2
    (bundle / "record.json").write_text(json.dumps(record))
    said = bench("check", bundle, cwd=tmp_path)
    assert said.code == 5
    assert "S-03" in said.out + said.err  # the checksum, before anything else


def test_leaderboard_shows_the_bundles(main_job: MainJob) -> None:
    said = bench("leaderboard", "submissions", "--out", "board", cwd=main_job.folder)
    assert said.code == 0, said.err
    page = (main_job.folder / "board" / "index.html").read_text()
    for bundle in main_job.bundles.values():
        assert bundle.name in page


def test_every_file_is_under_checksums(main_job: MainJob) -> None:
    for bundle in main_job.bundles.values():
        listed = {line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()}
        assert listed == {path.name for path in bundle.iterdir()} - {"SHA256SUMS"}
