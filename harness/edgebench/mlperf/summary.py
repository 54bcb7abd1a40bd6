"""What sums a run up: `mlperf_log_summary.txt` for people, the rows of MLPerf's result table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from edgebench.csv_cells import cell
from edgebench.mlperf.kernel_run import NOTICE, UNKNOWN, KernelRun
from edgebench.mlperf.system_fields import measurement_fields, system_fields

COLUMNS = (
    "Organization", "Availability", "Division", "SystemType", "SystemName", "Platform", "Model",
    "MlperfModel", "Scenario", "Result", "Accuracy", "number_of_nodes",
    "host_processor_model_name", "host_processors_per_node", "host_processor_core_count",
    "accelerator_model_name", "accelerators_per_node", "total_accelerators", "Location",
    "framework", "operating_system", "notes", "compliance", "errors", "version", "inferred",
    "has_power", "Units", "weight_data_types", "design_power_watts", "PrivateID",
)  # fmt: skip
"""Of the CSV that MLPerf's submission checker writes (results.py)."""

_FROM_SYSTEM = (
    "number_of_nodes", "host_processor_model_name", "host_processors_per_node",
    "host_processor_core_count", "accelerator_model_name", "accelerators_per_node", "framework",
    "operating_system",
)  # fmt: skip


def summary_text(run: KernelRun, entries: Mapping[str, object]) -> str:
    """Write the summary that people read, from the entries of the detail log."""
    shown = [
        f"{key} : {value}"
        for key, value in entries.items()
        if key.startswith(("result_", "early_stopping", "effective_", "generated_", "num_"))
    ]
    title = f"EdgeBench results summary: {run.workload.name} {run.scenario}"
    rule = "=" * len(title)
    head = [
        NOTICE,
        rule,
        title,
        rule,
        f"SUT name : {entries['sut_name']}",
        f"Scenario : {run.scenario}",
        f"Mode : {entries['effective_test_mode']}",
    ]
    if "result_validity" in entries:
        head.append(f"Result is : {entries['result_validity']}")
    return "\n".join([*head, "", *shown]) + "\n"


def result_rows(run: KernelRun, location: str) -> list[dict[str, object]]:
    """Return the run's row, and one of its energy if that was measured."""
    system, result = system_fields(run), run.result
    is_single = run.scenario == "SingleStream"
    accuracy = None if result.accuracy is None else 100 * result.accuracy
    energy = result.energy
    has_power = energy.status == "measured"
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row |= {name: system[name] for name in _FROM_SYSTEM}
    row |= {
        "Organization": run.record.organisation,
        "Availability": system["status"],
        "Division": run.record.track,
        "SystemType": system["system_type"],
        "SystemName": run.record.system,
        "Platform": run.system_id,
        "Model": run.workload.name,
        "MlperfModel": UNKNOWN,
        "Scenario": run.scenario,
        "Result": result.latency_p90_ms if is_single else result.samples_per_s,
        "Accuracy": "" if accuracy is None else f"{run.metric}: {accuracy:.3f}",
        "total_accelerators": len(run.bundle.system.gpus),
        "Location": location,
        "notes": NOTICE,
        "compliance": run.record.track,
        "errors": 0,
        "inferred": 0,
        "has_power": has_power,
        "Units": "Latency (ms)" if is_single else "Samples/s",
        "weight_data_types": measurement_fields(run)["weight_data_types"],
    }
    if not has_power or energy.joules is None:
        return [row]
    per_query_mJ = 1000 * energy.joules / result.queries
    figure = {"Result": per_query_mJ, "Units": "millijoules"}
    if not is_single:
        figure = {"Result": energy.mean_power_W, "Units": "Watts"}
    return [row, row | figure]


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows under MLPerf's column names."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def as_json(rows: Sequence[Mapping[str, object]]) -> str:
    """Write the same rows as JSON."""
    return json.dumps({"notice": NOTICE, "results": list(rows)}, indent=2, allow_nan=False) + "\n"
