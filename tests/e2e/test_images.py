"""A workload of images from the command line: run, check, leaderboard, and what it refuses.

The model is the smallest subnet, untrained, made here; it answers every image alike, so that
rounding changes no answer. Nothing here is about how good or how fast it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgebench_workloads.cache import CACHE_VARIABLE
from tests.e2e.conftest import ROOT, Said, _run

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native]

TINY = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
root = Path(sys.argv.pop(1))
from edgebench import profiles
from edgebench_workloads.catalog import WORKLOADS
from tests.harness.images.tiny_wake import make_tiny, shrink_sets
shrink_sets()
profiles.REFERENCE_ACCURACY.pop("wake", None)  # of the trained one
is_made = (root / "wake" / "model").is_dir()
WORKLOADS["wake"] = replace(WORKLOADS["wake"], root=root) if is_made else make_tiny(root, bias=99.0)
from edgebench.cli import main
main()
"""


def tiny(folder: Path, *arguments: str | Path) -> Said:
    """Run `bench` with the tiny `wake` of a folder."""
    command = [sys.executable, "-c", TINY, str(ROOT), str(folder / "root")]
    return _run(command, arguments, folder, {})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """Both scenarios of the tiny `wake`."""
    folder = tmp_path_factory.mktemp("images")
    words = ("run", "--track", "closed", "--workload", "wake", "--budget", "30")
    return folder, tiny(folder, *words, "--format", "json")


def test_both_scenarios_are_measured(ran: tuple[Path, Said]) -> None:
    _, said = ran
    assert said.code == 0, said.err
    cells = {(row["scenario"], row["kernel"]): row for row in said.rows}
    assert len(cells) == 4
    for (scenario, kernel), row in cells.items():
        assert row["valid"], row["invalid_reasons"]
        assert row["accuracy"] == 0.5
        assert row["call_nll"] > 0
        assert row["samples_per_s"] > 0
        assert [row[name] for name in ("ttft_p90_ms", "tpot_p90_ms", "tokens_per_s")] == [None] * 3
        assert (row["latency_p90_ms"] is None) == (scenario == "offline")
        assert row["executed_path"].startswith("w4") == (kernel == "int4")
        assert "1x1 layers" in row["executed_path"]


def test_the_record_says_what_the_model_costs(ran: tuple[Path, Said]) -> None:
    folder, _ = ran
    paths = sorted(folder.glob("submissions/closed/*/*/wake/*/*/record.json"))
    assert len(paths) == 2
    for path in paths:
        record = json.loads(path.read_text())
        assert record["workload"]["kind"] == "images"
        reference, candidate = (result["cost"] for result in record["results"])
        assert reference["macs"] == candidate["macs"] > 0
        assert candidate["model_bytes"] < reference["model_bytes"] == 2 * reference["parameters"]


def test_the_bundles_keep_the_rules(ran: tuple[Path, Said]) -> None:
    folder, _ = ran
    for bundle in folder.glob("submissions/closed/*/*/wake/*/*"):
        said = tiny(folder, "check", bundle)
        assert said.code == 0, said.out


def test_an_invented_cost_is_found(ran: tuple[Path, Said]) -> None:
    from tests.harness.checker.conftest import seal

    folder, _ = ran
    bundle = next(folder.glob("submissions/closed/*/*/wake/single-stream/*"))
    before = (bundle / "record.json").read_text()
    record = json.loads(before)
    record["results"][1]["cost"]["macs"] //= 2
    (bundle / "record.json").write_text(json.dumps(record))
    seal(bundle)
    try:
        said = tiny(folder, "check", bundle)
        assert said.code == 5
        assert "N-04" in said.out
    finally:
        (bundle / "record.json").write_text(before)
        seal(bundle)


def test_the_leaderboard_shows_it(ran: tuple[Path, Said]) -> None:
    folder, _ = ran
    said = tiny(folder, "leaderboard", folder / "submissions", "--out", folder / "board")
    assert said.code == 0, said.err
    page = "\n".join(path.read_text() for path in folder.glob("board/**/*.html"))
    assert "multiply-accumulates" in page
    assert "MCUNet" in page


def test_a_transform_of_text_is_refused(ran: tuple[Path, Said]) -> None:
    folder, _ = ran
    said = tiny(folder, "run", "--workload", "wake", "--transform", "awq")
    assert said.code == 2, said.err
    assert "expected rtn for a workload" in said.err
    assert "Traceback" not in said.err


def test_both_scenarios_are_audited(ran: tuple[Path, Said]) -> None:
    """What does not hang on time must pass; times of so small a network may leave it unsure."""
    folder, _ = ran
    for bundle in folder.glob("submissions/closed/*/*/wake/*/*"):
        out = folder / "audits" / bundle.parent.name
        said = tiny(folder, "audit", bundle, "--tests", "outputs,seeds,tokens", "--out", out)
        assert said.code in (0, 4), said.err
        kernels = json.loads((out / "audit.json").read_text())["kernels"]
        assert [one["kernel"] for one in kernels] == ["fp16", "int4"]
        for one in kernels:
            tests = {test["test"]: test for test in one["tests"]}
            assert tests["tokens"]["verdict"] == "not applicable"
            found = {m["what"]: m for m in tests["outputs"]["measures"]}
            told = {what: m["verdict"] for what, m in found.items() if "latency" not in what}
            # Its classifier is so sure of itself that no likelihood is left to compare.
            assert told.pop("call NLL, claimed / here") == "not applicable"
            assert told == dict.fromkeys(told, "passed")
            assert len(told) == 5
            (claimed,) = (m for m in tests["seeds"]["measures"] if "claimed" in m["what"])
            assert claimed["note"] == "none ran", "the published samples are all that there are"
            assert found["outputs unlike the bundle's"]["value"] == 0


def test_a_bundle_is_exported_in_mlperfs_layout(ran: tuple[Path, Said]) -> None:
    folder, _ = ran
    bundle = next(folder.glob("submissions/closed/*/*/wake/single-stream/*"))
    said = tiny(folder, "export", "mlperf", bundle, folder / "mlperf")
    assert said.code == 0, said.err
    runs = sorted((folder / "mlperf").glob("closed/*/results/*/wake/SingleStream"))
    assert len(runs) == 2
    for run in runs:
        detail = (run / "performance/run_1/mlperf_log_detail.txt").read_text()
        lines = [json.loads(line.removeprefix(":::MLLOG ")) for line in detail.splitlines()]
        entries = {line["key"]: line["value"] for line in lines}
        assert entries["requested_use_token_latencies"] is False
        assert entries["early_stopping_latency_ss"] > 0
        assert not [key for key in entries if "token" in key and key.startswith("result_")]
        text = (run / "accuracy/accuracy.txt").read_text()
        assert "accuracy=50.000%, good=32, total=64" in text
        log = json.loads((run / "accuracy/mlperf_log_accuracy.json").read_text())
        assert len(log) == 64
        assert {entry["data"] for entry in log} == {"0100000000000000"}
        assert not any("token_count" in entry for entry in log)
    calibration = next((folder / "mlperf").glob("closed/*/documentation/calibration.md"))
    assert "Other layers: 8 bits, one scale a channel." in calibration.read_text()
    summary = json.loads((folder / "mlperf/summary.json").read_text())
    assert [row["Accuracy"] for row in summary["results"]] == ["top1: 50.000"] * 2


QUICK = """
from edgebench.transform import nas_accuracy, nas_measure
from edgebench_workloads.wake import dataset, extract, train
for module in (train, dataset, extract):
    module.CALIBRATION_BATCHES, module.CALIBRATION_BATCH = 2, 4
train.calibration_images.cache_clear()  # of what the tiny model was made with
nas_measure.ROUNDS, nas_measure.RACE_ROUNDS = 2, 2
nas_measure.FITTED, nas_measure.HELD_OUT = 6, 3
nas_accuracy.SCENES, nas_accuracy.ROUGH_SCENES = 40, 20
"""


def test_a_subnet_is_searched_measured_and_checked(tmp_path: Path) -> None:
    """`nas` as a user types it, with a small table and few scenes; the limit is one of memory."""
    main = "from edgebench.cli import main"
    script = TINY.replace(main, f"{QUICK}\n{main}")
    step = "nas:memory=64kib,samples=20,generations=2"
    words = (
        *("run", "--track", "open", "--workload", "wake", "--transform", step),
        *("--scenario", "single-stream", "--budget", "30", "--format", "json", "--threads", "1"),
    )
    folder = str(tmp_path / "root")
    cache = {CACHE_VARIABLE: str(tmp_path / "cache")}
    said = _run([sys.executable, "-c", script, str(ROOT), folder], words, tmp_path, cache)
    assert said.code == 0, said.err
    assert {row["kernel"] for row in said.rows} == {"fp16", "open"}
    (bundle,) = tmp_path.glob("submissions/open/*/*/wake/single-stream/*")
    ledger = json.loads((bundle / "ledger.json").read_text())
    search = ledger["open_subnet"]["search"]
    assert ledger["open_subnet"]["peak_activation_bytes"] <= search["limit"] == 65_536
    assert search["measured_latency_ns"] in [one["measured_latency_ns"] for one in search["tried"]]
    checked = _run(
        [sys.executable, "-c", script, str(ROOT), folder], ("check", bundle), tmp_path, cache
    )
    assert checked.code == 0, checked.out
    kept = sorted(path for path in (tmp_path / "cache").rglob("*") if "nas" in path.parts)
    again = _run(
        [sys.executable, "-c", script, str(ROOT), folder],
        ("audit", bundle, "--tests", "outputs", "--out", tmp_path / "audit"),
        tmp_path,
        {CACHE_VARIABLE: str(tmp_path / "another cache")},
    )
    assert again.code in (0, 4), again.err  # 4: a busy machine leaves a latency unsure
    assert kept, "the run keeps what it searched"
    assert not (tmp_path / "another cache" / "nas").exists(), "the filed subnet runs, no search"
