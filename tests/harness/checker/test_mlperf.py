"""`bench export mlperf`: the structure that MLPerf's public checker reads, each number derived."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import statistics
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgebench.cli import main
from edgebench.errors import BundleError, SpecError, StorageError
from edgebench.mlperf import export_mlperf
from edgebench.mlperf.accuracy_files import LIMIT_BYTES, truncated
from edgebench.mlperf.kernel_run import NOTICE
from edgebench.mlperf.summary import COLUMNS
from edgebench.profiles import QSL_SEED, SAMPLE_INDEX_SEED, SCHEDULE_SEED
from edgebench.stats import early_stopping_estimate_ns
from tests.harness.checker.conftest import SCORED, Maker
from tests.harness.checker.edits import add_accuracy, make_external, rows
from tests.harness.checker.test_rules_measured import metered

# What the public checker demands (mlcommons/inference b66003e1, submission_checker/constants.py).
RUN_FILES = {
    "measurements.json", "user.conf", "README.md",
    "performance/run_1/mlperf_log_detail.txt", "performance/run_1/mlperf_log_summary.txt",
    "accuracy/mlperf_log_detail.txt", "accuracy/mlperf_log_summary.txt", "accuracy/accuracy.txt",
    "accuracy/mlperf_log_accuracy.json",
}  # fmt: skip
SYSTEM_FIELDS = (
    "division submitter status system_name number_of_nodes host_processor_model_name "
    "host_processors_per_node host_processor_core_count host_memory_capacity "
    "host_storage_capacity host_storage_type accelerators_per_node accelerator_model_name "
    "accelerator_memory_capacity framework operating_system system_type other_software_stack "
    "host_processor_frequency host_processor_caches host_memory_configuration "
    "host_processor_interconnect host_networking host_networking_topology accelerator_frequency "
    "accelerator_host_interconnect accelerator_interconnect accelerator_interconnect_topology "
    "accelerator_memory_configuration accelerator_on-chip_memories cooling hw_notes sw_notes "
    "host_network_card_count system_type_detail"
).split()
MEASUREMENT_FIELDS = (
    "input_data_types retraining starting_weights_filename weight_data_types weight_transformations"
).split()
READ_KEYS = (
    "effective_scenario effective_samples_per_query effective_min_query_count sut_name "
    "effective_min_duration_ms effective_performance_sample_count early_stopping_met "
    "effective_sample_concatenate_permutation result_99.00_percentile_latency_ns "
    "result_mean_latency_ns requested_use_token_latencies effective_target_latency_percentile"
).split()


def export(maker: Maker, tmp_path: Path) -> dict[str, Path]:
    """Write the bundle, export it, and return the runs' folders by kernel."""
    folders = export_mlperf(maker.write(), tmp_path / "out", lookup=maker.lookup)
    return dict(zip(("fp16", "int4"), folders, strict=True))


def log(folder: Path, part: str = "performance/run_1") -> dict[str, Any]:
    """Parse a detail log as MLPerf's parser does: by the marker of its first line."""
    lines = (folder / part / "mlperf_log_detail.txt").read_text().splitlines()
    entries = [json.loads(line.removeprefix(":::MLLOG")) for line in lines]
    assert all(line.startswith(":::MLLOG {") for line in lines)
    assert all(entry["metadata"]["is_error"] is False for entry in entries)
    assert len({entry["key"] for entry in entries}) == len(entries)
    return {entry["key"]: entry["value"] for entry in entries}


def test_the_tree_has_every_folder_and_file_that_is_demanded(maker: Maker, tmp_path: Path) -> None:
    for kernel, folder in export(maker, tmp_path).items():
        system = f"box-{kernel}"
        where = f"closed/tester/results/{system}/assistant@tiny/SingleStream"
        assert folder == tmp_path / "out" / where
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert files == RUN_FILES
        assert all((folder / name).stat().st_size for name in RUN_FILES)
        submitter = tmp_path / "out" / "closed" / "tester"
        assert {path.name for path in submitter.iterdir()} == {
            "src", "documentation", "systems", "results",
        }  # fmt: skip
        assert (submitter / "systems" / f"{system}.json").is_file()
        assert (submitter / "documentation" / "calibration.md").is_file()


def test_every_field_is_there_and_says_something(maker: Maker, tmp_path: Path) -> None:
    for kernel, folder in export(maker, tmp_path).items():
        path = tmp_path / "out" / "closed" / "tester" / "systems" / f"box-{kernel}.json"
        system = json.loads(path.read_text())
        assert [name for name in SYSTEM_FIELDS if not system.get(name)] == []
        assert (system["division"], system["submitter"]) == ("closed", "tester")
        assert system["status"] in ("available", "preview", "rdi")
        assert system["host_processors_per_node"] == "N/A"  # no bundle says so
        measured = json.loads((folder / "measurements.json").read_text())
        assert [name for name in MEASUREMENT_FIELDS if not measured.get(name)] == []
        assert measured["weight_data_types"] == kernel
        assert ("rtn" in measured["weight_transformations"]) == (kernel == "int4")


def test_single_stream_numbers_follow_from_the_rows(maker: Maker, tmp_path: Path) -> None:
    for kernel, folder in export(maker, tmp_path).items():
        entries = log(folder)
        latencies = [row["completed_ns"] - row["issued_ns"] for row in rows(maker, kernel)]
        estimate = early_stopping_estimate_ns(latencies, 0.9)
        assert estimate is not None
        assert entries["early_stopping_latency_ss"] == estimate.estimate_ns
        assert entries["early_stopping_latency_ms"] == 0  # p99 needs 662 queries
        assert entries["result_min_latency_ns"] == min(latencies)
        assert entries["result_max_latency_ns"] == max(latencies)
        assert entries["result_mean_latency_ns"] == round(statistics.fmean(latencies))
        assert entries["result_90.00_percentile_latency_ns"] == sorted(latencies)[345]
        assert entries["result_query_count"] == entries["generated_query_count"] == 384
        quarter = sorted(latency // 4 for latency in latencies)
        assert entries["result_first_token_99.00_percentile_latency_ns"] == quarter[380]
        assert entries["result_validity"] == "VALID"
        assert [key for key in READ_KEYS if entries.get(key) is None] == []
        assert entries["effective_min_duration_ms"] == 0  # quick, and it says so
        seeds = [entries[f"effective_{name}_rng_seed"] for name in SEEDS]
        assert seeds == list(SEEDS.values())


SEEDS = {"qsl": QSL_SEED, "sample_index": SAMPLE_INDEX_SEED, "schedule": SCHEDULE_SEED}


def test_offline_numbers_follow_from_the_rows(offline: Maker, tmp_path: Path) -> None:
    for kernel, folder in export(offline, tmp_path).items():
        entries = log(folder)
        assert folder.name == entries["effective_scenario"] == "Offline"
        assert entries["generated_query_count"] == 6
        assert entries["effective_samples_per_query"] == SCORED
        seconds = 6 * SCORED * {"fp16": 0.040, "int4": 0.010}[kernel]
        assert entries["result_samples_per_second"] == pytest.approx(6 * SCORED / seconds)
        assert entries["result_tokens_per_second"] == pytest.approx(4 * 6 * SCORED / seconds)
        assert "early_stopping_latency_ss" not in entries
        assert [key for key in READ_KEYS if entries.get(key) is None] == []


def test_accuracy_comes_with_its_log_and_the_hash_of_it(maker: Maker, tmp_path: Path) -> None:
    for folder in export(maker, tmp_path).values():
        data = (folder / "accuracy" / "mlperf_log_accuracy.json").read_bytes()
        entries = json.loads(data)
        assert [entry["qsl_idx"] for entry in entries] == list(range(SCORED))
        tokens = bytes.fromhex(entries[7]["data"])
        assert [int.from_bytes(tokens[i : i + 8], "little") for i in (0, 8, 16, 24)] == [
            10, 5, 6, 2,
        ]  # fmt: skip
        text = (folder / "accuracy" / "accuracy.txt").read_text().splitlines()
        assert text[-1] == f"hash={hashlib.sha256(data).hexdigest()}"
        assert "'exact_match': 100.000" in text[-2]
        assert "'tokens_per_sample': 4.000" in text[-2]
        accuracy = log(folder, "accuracy")
        assert accuracy["effective_accuracy_sample_count"] == SCORED
        assert accuracy["effective_test_mode"] == "PerformanceOnly"  # no run of its own
        assert "Scored on the outputs of the performance run." in text


def test_an_accuracy_run_of_its_own_is_called_so(maker: Maker, tmp_path: Path) -> None:
    add_accuracy(maker)
    maker.derive()
    for folder in export(maker, tmp_path).values():
        assert log(folder, "accuracy")["effective_test_mode"] == "AccuracyOnly"
        assert "performance run" not in (folder / "accuracy" / "accuracy.txt").read_text()


def test_a_long_accuracy_log_keeps_both_ends() -> None:
    whole = bytes(range(256)) * 100
    cut = truncated(whole)
    assert len(cut) < LIMIT_BYTES < len(whole)
    assert (cut[:4096], cut[-4096:]) == (whole[:4096], whole[-4096:])
    assert truncated(whole[:LIMIT_BYTES]) == whole[:LIMIT_BYTES]


def test_every_text_says_that_it_is_no_mlperf_result(maker: Maker, tmp_path: Path) -> None:
    export(maker, tmp_path)
    silent = {
        path.name
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and NOTICE not in path.read_text()
    }
    assert silent == {"mlperf_log_accuracy.json"}  # token ids alone; accuracy.txt lies beside it
    assert "not an MLPerf result" in NOTICE
    assert "not verified by MLCommons Association" in NOTICE


def test_the_table_has_mlperfs_columns(maker: Maker, tmp_path: Path) -> None:
    export(maker, tmp_path)
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(COLUMNS)
    assert [row["Platform"] for row in table] == ["box-fp16", "box-int4"]
    assert float(table[1]["Result"]) == maker.result("int4")["latency_p90_ms"]
    assert {row["has_power"] for row in table} == {"False"}
    assert {row["MlperfModel"] for row in table} == {"N/A"}
    shown = json.loads((tmp_path / "out" / "summary.json").read_text())["results"]
    assert [str(row["Result"]) for row in shown] == [row["Result"] for row in table]


def test_power_is_exported_where_it_was_measured_alone(maker: Maker, tmp_path: Path) -> None:
    metered(maker)
    folders = export(maker, tmp_path)
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    units = [row["Units"] for row in table]
    assert units == ["Latency (ms)", "millijoules"] * 2
    # 10 W for some 10 ms a query of int4.
    assert float(table[3]["Result"]) == pytest.approx(100.0, rel=0.01)
    for folder in folders.values():
        assert (folder / "performance" / "power" / "power.csv").read_text() == maker.power


def test_a_folder_that_exists_is_never_touched(maker: Maker, tmp_path: Path) -> None:
    bundle = maker.write()
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("out", "link"):
        with pytest.raises(SpecError, match="expected a folder that does not exist"):
            export_mlperf(bundle, tmp_path / name, lookup=maker.lookup)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_broken_bundle_is_not_exported(maker: Maker, tmp_path: Path) -> None:
    maker.result("int4")["speedup"] = 9.0
    bundle = maker.write()
    with pytest.raises(BundleError, match="N-02"):
        export_mlperf(bundle, tmp_path / "new" / "out", lookup=maker.lookup)
    assert not (tmp_path / "new").exists()


def test_an_unwritable_place_is_said(maker: Maker, tmp_path: Path) -> None:
    bundle = maker.write()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.*; choose another folder$"):
        export_mlperf(bundle, tmp_path / "file" / "out", lookup=maker.lookup)


def test_a_disk_that_fails_leaves_nothing_behind(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = maker.write()
    written = Path.write_bytes

    def fail(path: Path, data: bytes) -> int:
        if path.name == "accuracy.txt":
            raise OSError(28, os.strerror(28))
        return written(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(StorageError, match=r"a full disk; free some space, then start again$"):
        export_mlperf(bundle, tmp_path / "place" / "out", lookup=maker.lookup)
    assert list((tmp_path / "place").iterdir()) == []


@pytest.mark.parametrize(
    ("bundle", "code", "said"), [("none", 2, "does not exist"), ("unknown", 5, "S-05")]
)
def test_the_command_knows_its_exit_codes(
    maker: Maker, tmp_path: Path, bundle: str, code: int, said: str
) -> None:
    if bundle == "unknown":
        (maker.write() / "SHA256SUMS").unlink()
    path = maker.path if bundle == "unknown" else tmp_path / bundle
    came = CliRunner().invoke(main, ["export", "mlperf", str(path), str(tmp_path / "out")])
    assert came.exit_code == code, came.output
    assert said in came.output
    assert not (tmp_path / "out").exists()


def test_an_external_engine_is_not_exported(maker: Maker, tmp_path: Path) -> None:
    make_external(maker)
    with pytest.raises(SpecError, match="an external engine's: the layout asks"):
        export(maker, tmp_path)
    assert not (tmp_path / "out").exists()
