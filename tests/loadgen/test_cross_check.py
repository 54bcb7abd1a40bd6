"""MLPerf LoadGen and our generator run the same systems and agree on early stopping."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgebench import stats

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("mlperf_loadgen") is None,
        reason="needs the extra [loadgen]: pip install 'edgebench[loadgen]'",
    ),
]

CASES = [
    ("sleeping", 63, 0.90, None),  # one short of the floor
    ("sleeping", 64, 0.90, 0),
    ("sleeping", 118, 0.90, 3),
    ("sleeping", 512, 0.90, 34),  # quick's count
    ("no-op", 5000, 0.90, 449),
    ("no-op", 20_001, 0.99, 166),
]


def run(directory: Path, generator: str, kind: str, queries: int, percentile: float) -> Any:
    target = directory / generator
    target.mkdir()
    script = Path(__file__).with_name("generate.py")
    arguments = [generator, kind, str(queries), str(percentile), str(target)]
    subprocess.run([sys.executable, str(script), *arguments], check=True, timeout=120)
    return json.loads((target / "result.json").read_text())


def said_discarded(text: str) -> int | None:
    """What LoadGen says of the target percentile, the first that its message is about."""
    match = re.search(r"Would discard (\d+) highest latency queries.*?estimate: \d+", text)
    return int(match[1]) if match else None


@pytest.mark.parametrize(("kind", "queries", "percentile", "discarded"), CASES)
def test_both_generators_agree(
    tmp_path: Path, kind: str, queries: int, percentile: float, discarded: int | None
) -> None:
    theirs = run(tmp_path, "loadgen", kind, queries, percentile)
    ours = run(tmp_path, "edgebench", kind, queries, percentile)
    log = theirs["log"]

    # Their latencies, our statistics: the same estimate to the ns, the same percentiles.
    assert len(theirs["latencies_ns"]) == log["result_query_count"] == queries
    estimate = stats.early_stopping_estimate_ns(theirs["latencies_ns"], percentile)
    assert (estimate.discarded if estimate else None) == discarded
    if estimate is None:
        assert log["result_validity"] == "INVALID"
        assert not log["early_stopping_met"]
        floor = stats.early_stopping_floor(percentile)
        assert f"at least {floor} queries" in log["early_stopping_result"]
    else:
        assert log["early_stopping_latency_ss"] == estimate.estimate_ns
        assert said_discarded(log["early_stopping_result"]) == discarded
    for name in ("50.00", "90.00", "97.00", "99.00"):
        raw = stats.percentile_raw(theirs["latencies_ns"], float(name) / 100)
        assert log[f"result_{name}_percentile_latency_ns"] == raw

    # Our generator over the same system: as many answers, as many of them discarded.
    assert len(ours["latencies_ns"]) == queries
    assert ours["discarded"] == discarded
    assert min(ours["latencies_ns"]) >= 0
    if kind == "sleeping":  # a sleep may last longer and never shorter
        assert min(ours["latencies_ns"] + theirs["latencies_ns"]) >= 200_000
