"""Result rows as text: every key there, what was not measured null, empty or a dash."""

import csv
import io
import json

import pytest

from edgebench.record import Energy, Row
from edgebench.rows import COLUMNS, as_csv, as_json, markdown

NEVER_MEASURED = {
    "latency_p50_ms", "latency_p90_ms", "latency_p90_raw_ms", "ttft_p90_ms", "tpot_p90_ms",
    "samples_per_s", "tokens_per_s", "accuracy", "accuracy_reference", "accuracy_ratio",
    "accuracy_passed", "call_nll", "peak_memory_bytes", "percent_of_bandwidth",
    "percent_of_compute", "speedup", "speedup_ci95", "energy_metrics",
}  # fmt: skip


@pytest.fixture
def bare() -> Row:
    """A row on which nothing that may be absent was measured."""
    return Row(
        run_id="r1", track="closed", workload="assistant", scenario="offline", kernel="int4",
        executed_path="w4a8|avx2", transform="rtn", profile="quick", device="cpu", valid=True,
        invalid_reasons=[], warnings=[], samples=1, duration_s=1.0, weight_bytes=1,
        energy=Energy(status="unmeasured", reason="no meter"),
        **dict.fromkeys(NEVER_MEASURED),
    )  # fmt: skip


def test_json_is_an_array_with_every_key_and_nulls(bare: Row) -> None:
    (row,) = json.loads(as_json([bare]))
    assert list(row) == list(Row.model_fields)
    assert all(row[key] is None for key in NEVER_MEASURED)
    energy = row["energy"]
    assert (energy.pop("status"), energy.pop("reason")) == ("unmeasured", "no meter")
    assert set(energy) == set(Energy.model_fields) - {"status", "reason"}
    assert set(energy.values()) == {None}


def test_csv_leaves_empty_what_was_not_measured(bare: Row) -> None:
    header, values = csv.reader(io.StringIO(as_csv([bare])))
    row = dict(zip(header, values, strict=True))
    assert all(row[key] == "" for key in NEVER_MEASURED)
    assert row["samples"] == "1"


@pytest.mark.parametrize("path", ['=HYPERLINK("http://evil")', "+1", "-1", "@sum", "\t=1"])
def test_csv_holds_no_formulas_of_a_submitter(bare: Row, path: str) -> None:
    row = bare.model_copy(update={"executed_path": path, "call_nll": -0.5})
    header, values = csv.reader(io.StringIO(as_csv([row])))
    shown = dict(zip(header, values, strict=True))
    assert shown["executed_path"] == f"'{path}"
    assert shown["call_nll"] == "-0.5"


def test_markdown_shows_a_dash_and_escapes_its_own_bar(bare: Row) -> None:
    line = markdown([bare]).splitlines()[-1]
    assert line.count(" | ") == len(COLUMNS) - 1
    assert "–" in line
    assert r"w4a8\|avx2" in line
    assert " 0 " not in line


def test_markdown_names_speedup_interval_and_missed_accuracy(bare: Row) -> None:
    row = bare.model_copy(
        update={"speedup": 2.0, "speedup_ci95": (1.9, 2.1), "accuracy_passed": False}
    )
    line = markdown([row])
    assert "2.00x [1.90, 2.10]" in line
    assert "accuracy missed" in line
    assert "INVALID" in markdown([row.model_copy(update={"valid": False})])
