"""A factory of records as strangers might send them: realistic, full of gaps, or hostile."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgebench.record import Record
from edgebench_reports.entries import Submission

ATTACK = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
    "\"'><svg/onload=window.pwned=3> \u2028\u2029 {{ 7 * 7 }} `${window.pwned = 4}` \u202e"
)
DISCLOSURE = (
    "The assistant, widened by an exactly function-preserving expansion: its weights outgrow the "
    "caches while its answers stay the trained model's."
    " Replicas 8, noise 0.7, 4 outlier channels x 8."
)
UNMEASURED = {"status": "unmeasured", "reason": "no meter can be read: no RAPL, no NVML"}

# (samples/s, latency ms) of fp16 and INT4; the rest follows.
SPEEDS = {
    ("assistant", "single-stream"): {"fp16": (19.4, 52.0), "int4": (47.1, 21.3)},
    ("assistant", "offline"): {"fp16": (240.0, 260.0), "int4": (410.0, 152.0)},
    ("assistant@300m", "single-stream"): {"fp16": (1.31, 764.0), "int4": (4.16, 241.0)},
    ("assistant@300m", "offline"): {"fp16": (6.2, 10300.0), "int4": (14.8, 4300.0)},
}
WEIGHTS = {"assistant": 5.1e6, "assistant@300m": 3.2e8}
BANDWIDTH, INT8, BF16, FP32 = 2.14e10, 6.1e11, 3.4e11, 9.2e10
TOKENS = 15.3
REFERENCE_PATH = "fp16 as bf16 (M > 16), fp32"
CACHED = "bandwidth: the weights fit in 4x the last-level cache (36 MB)"
SHA = "0123456789abcdef" * 4


def energy(meter: str, domain: str, joules: float) -> dict[str, Any]:
    """What a meter saw."""
    return {
        "status": "measured",
        "meter": meter,
        "domain": domain,
        "joules": joules,
        "mean_power_W": 21.4,
        "coverage": 0.99,
    }


def result(kernel: str, workload: str, scenario: str, speed: float) -> dict[str, Any]:
    """One kernel's result on a machine `speed` times ours."""
    rate, latency = SPEEDS[workload, scenario][kernel]
    gain = rate / SPEEDS[workload, scenario]["fp16"][0]
    is_int4, single = kernel == "int4", scenario == "single-stream"
    small, batch = workload == "assistant", 1 if single else 64
    weight_bytes = int(WEIGHTS[workload] * (0.55 if is_int4 else 2))
    arithmetic, peak = ("int8", INT8) if is_int4 else ("bf16", BF16)
    streamed = None if small else 100 * weight_bytes * rate * TOKENS / batch / BANDWIDTH
    computed = 100 * 2 * WEIGHTS[workload] * rate * (TOKENS + 20) / peak
    return {
        "kernel": kernel,
        "executed_path": "w4a16/avx512_vnni prefill=w4a8" if is_int4 else REFERENCE_PATH,
        "transform": "rtn:group=128" if is_int4 else "none",
        "valid": True,
        "samples": 128 if single else 384,
        "queries": 128 if single else 6,
        "duration_s": 14.2,
        "latency_p50_ms": 0.9 * latency / speed,
        "latency_p90_ms": latency / speed if single else None,
        "latency_p90_raw_ms": 0.98 * latency / speed,
        "ttft_p90_ms": 0.3 * latency / speed,
        "tpot_p90_ms": 0.05 * latency / speed,
        "samples_per_s": rate * speed,
        "tokens_per_s": TOKENS * rate * speed,
        "energy": UNMEASURED,
        "accuracy": 0.981 if is_int4 else 0.984,
        "accuracy_samples": 1000,
        "accuracy_reference": 0.984,
        "accuracy_ratio": 0.981 / 0.984 if is_int4 else 1.0,
        "accuracy_passed": True,
        "call_nll": 0.0594 if is_int4 else 0.0563,
        "mean_output_tokens": TOKENS,
        "weight_bytes": weight_bytes,
        "peak_memory_bytes": weight_bytes + 900_000_000,
        "batch_size": batch,
        "roofline": {
            "bytes_per_token": weight_bytes / batch,
            "operations_per_token": 2 * WEIGHTS[workload],
            "percent_of_bandwidth": streamed,
            "percent_of_compute": computed,
            "compute_ceiling": arithmetic,
            "reason": CACHED if small else None,
        },
        "speedup": gain if is_int4 else None,
        "speedup_ci95": [0.97 * gain, 1.03 * gain] if is_int4 else None,
    }


def record_data(
    workload: str = "assistant",
    scenario: str = "single-stream",
    *,
    speed: float = 1.0,
    **changes: Any,
) -> dict[str, Any]:
    """Return a record as it would stand in record.json; `changes` replace whole fields."""
    values = {"read_bandwidth": BANDWIDTH, "int8": INT8, "bf16": BF16, "fp32": FP32}
    instructions = {
        "read_bandwidth": "vmovntdqa-zmm",
        "int8": "vpdpbusd-zmm",
        "bf16": "vdpbf16ps-zmm",
        "fp32": "vfmadd-zmm",
    }
    record = {
        "schema_version": 1,
        "run_id": "20260102T030405Z-abcdef",
        "complete": True,
        "track": "closed",
        "organisation": "unaffiliated",
        "system": "Intel-Xeon-2c-avx512_vnni",
        "workload": {
            "name": workload,
            "disclosure": DISCLOSURE if "@" in workload else None,
            "task_sha256": SHA,
            "reference_sha256": SHA,
            "scored_sha256": SHA,
            "calibration_sha256": SHA,
        },
        "scenario": scenario,
        "profile": "quick",
        "stamps": ["NON-COMPLIANT-DURATION"],
        "seeds": {"sample_index": 1, "schedule": 2},
        "host": {
            "device_requested": "auto",
            "device": "cpu",
            "executed_on": "CPU kernels on Intel(R) Xeon(R) Processor @ 2.80GHz",
            "last_level_cache_bytes": 36_000_000,
            "threads": 2,
            "other_runs_seen": False,
        },
        "ceilings": [
            {
                "ceiling": name,
                "instruction": instructions[name],
                "median": value * speed,
                "repeats": 9,
            }
            for name, value in values.items()
        ],
        "results": [result(kernel, workload, scenario, speed) for kernel in ("fp16", "int4")],
        "provenance": {
            "tool_version": "0.1.0",
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "git_dirty": False,
            "command": "bench run --track closed --device auto --workload assistant,assistant@300m "
            "--scenario single-stream,offline --kernel fp16,int4 --transform rtn --profile quick",
            "started_utc": "2026-01-02T03:04:05Z",
            "finished_utc": "2026-01-02T03:09:01Z",
        },
    }
    return {**record, **changes}


SYSTEM = {
    "cpu": {
        "model": "Intel(R) Xeon(R) Processor",
        "cores_usable": 2,
        "flags": ["avx2", "avx512f"],
        "turbo": None,
    },
    "memory": {"total_bytes": 25_000_000_000},
    "kernel": {"hypervisor": "KVM", "load_average": [0.1, 0.2, 0.3]},
    "gpus": [],
}


def submission(
    data: Mapping[str, Any], system: Mapping[str, Any] = SYSTEM, **changes: Any
) -> Submission:
    """Validate a record strictly, as a reader of record.json does."""
    record = Record.model_validate_json(json.dumps({**data, **changes}))
    return Submission(record=record, system=dict(system))


def edited(data: dict[str, Any], kernel: str, **changes: Any) -> dict[str, Any]:
    """Return a record with some fields of one kernel's result replaced."""
    results = [{**r, **changes} if r["kernel"] == kernel else r for r in data["results"]]
    return {**data, "results": results}


def bare(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record with None wherever the schema allows it."""
    optional = (
        "latency_p50_ms",
        "latency_p90_ms",
        "latency_p90_raw_ms",
        "ttft_p90_ms",
        "tpot_p90_ms",
        "samples_per_s",
        "tokens_per_s",
        "accuracy",
        "accuracy_reference",
        "accuracy_ratio",
        "accuracy_passed",
        "call_nll",
        "mean_output_tokens",
        "peak_memory_bytes",
        "speedup",
        "speedup_ci95",
    )
    empty: dict[str, Any] = dict.fromkeys(optional)
    empty |= {"energy": {"status": "unmeasured"}, "roofline": {}}
    return {
        **data,
        "ceilings": [],
        "results": [{**r, **empty} for r in data["results"]],
        "host": {**data["host"], "last_level_cache_bytes": None},
        "provenance": {"tool_version": "0.1.0", "command": "bench run", "started_utc": "then"},
    }


def hostile(data: dict[str, Any], text: str = ATTACK) -> dict[str, Any]:
    """Return a record with an attack in every free-text field."""
    hot = {"status": "measured", "meter": "rapl", "domain": text, "joules": 9.0, "reason": text}
    results = [
        {
            **r,
            "executed_path": text,
            "transform": text,
            "invalid_reasons": [text],
            "warnings": [text],
            "energy": hot,
            "roofline": {**r["roofline"], "reason": text},
        }
        for r in data["results"]
    ]
    provenance = {
        "tool_version": "0.1.0",
        "git_commit": text,
        "git_dirty": True,
        "command": text,
        "started_utc": text,
        "finished_utc": text,
    }
    return {
        **data,
        "results": results,
        "stamps": [text],
        "provenance": provenance,
        "workload": {**data["workload"], "disclosure": text},
        "host": {**data["host"], "executed_on": text},
    }


HOSTILE_SYSTEM = {ATTACK: {"nested": [ATTACK, {ATTACK: ATTACK}]}, "cpu": ATTACK}


def gallery() -> list[Submission]:
    """Return several systems, both workloads and scenarios, gaps, misses and attacks."""
    shown = [submission(record_data(*case)) for case in SPEEDS]
    for case in SPEEDS:
        single = case[1] == "single-stream"
        orin = record_data(
            *case,
            speed=2.7,
            system="Jetson-Orin-12c-neon_dotprod",
            run_id="20260103T000000Z-0a0a0a",
            host={**record_data()["host"], "device": "orin", "device_requested": "orin"},
        )
        for kernel, joules in (("fp16", 88.0), ("int4", 31.0)):
            orin = edited(orin, kernel, energy=energy("ina", "VDD_IN", joules))
        shown.append(submission(orin))
        fast = record_data(
            *case,
            speed=1.9,
            system="AMD-EPYC-2c-avx512_vnni",
            run_id="20260104T000000Z-0b0b0b",
            organisation="elsewhere",
        )
        fast = edited(fast, "int4", energy=energy("rapl", "package-0", 12.0 if single else 40.0))
        if case == ("assistant", "single-stream"):
            fast = edited(fast, "int4", accuracy=0.93, accuracy_ratio=0.945, accuracy_passed=False)
        if case == ("assistant", "offline"):
            fast = edited(fast, "int4", valid=False, invalid_reasons=["D-02: 4 queries of 6"])
        shown.append(submission(fast))
    slow = record_data(speed=0.4, system="Bare-1c-scalar", run_id="20260105T000000Z-0c0c0c")
    shown.append(submission(bare(slow), system={}))
    return shown


def attack() -> Submission:
    """Return the hostile submission."""
    data = record_data(
        "assistant",
        "offline",
        speed=5.0,
        system="Hostile-1c",
        run_id="hostile",
        organisation="mallory",
    )
    return submission(hostile(data), system=HOSTILE_SYSTEM)


def chart_rows(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every row of data in a Vega-Lite spec; Altair moves a layer's data to `datasets`."""
    return [row for rows in spec["datasets"].values() for row in rows]


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """This module: the tests of a folder without packages cannot import it by name."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def bundles() -> ModuleType:
    """The checker's factory of whole bundles on disk."""
    path = Path(__file__).parents[1] / "harness" / "checker" / "conftest.py"
    spec = importlib.util.spec_from_file_location("bundle_factory", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
