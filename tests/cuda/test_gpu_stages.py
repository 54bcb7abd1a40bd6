"""Stages of a GPU check that need workloads and the harness, as far as they need no GPU."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "kernels" / "perf"))

from gpu_stages import assistant_task, bench_run, prepare, widened  # noqa: E402

from edgebench.devices import GPU_KERNELS  # noqa: E402
from edgebench_kernels import native  # noqa: E402
from edgebench_kernels.cuda.check.events import Failed, Unavailable  # noqa: E402
from edgebench_kernels.cuda.check.worker import Request  # noqa: E402
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402
from edgebench_workloads.catalog import WORKLOADS  # noqa: E402
from edgebench_workloads.widen import WidenPlan, widen_checkpoint  # noqa: E402

PLAN = WidenPlan(replicas=2, noise=0.3, outlier_factor=4, outlier_channels=1, seed=7)


def request_of(tmp_path: Path) -> Request:
    return Request(work=tmp_path, until=time.monotonic() + 60)


# --------------------------------------------------------------------------------------- the model


def test_the_variant_is_the_catalogs() -> None:
    workload = WORKLOADS["assistant@1b"]
    variant = assistant_task.variant()
    assert variant.plan == workload.plan
    assert variant.standard == workload.task.targets.standard
    assert variant.max_new_tokens == workload.task.max_new_tokens


def test_a_model_widened_on_all_cpus_is_the_catalogs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widened, "MOST_PROCESSES", 2)
    expected, made = tmp_path / "expected", tmp_path / "made"
    expected.mkdir()
    widen_checkpoint(assistant_task.MODEL, expected, PLAN)
    assert not widened.is_done(made)
    told = widened.write(assistant_task.MODEL, made, PLAN)
    assert widened.is_done(made)
    wanted = load_file(expected / "model.safetensors")
    found = widened.tensors(made)
    assert set(found) == set(wanted)
    assert told["parameters"] == sum(tensor.size for tensor in wanted.values())
    for name, tensor in wanted.items():
        assert np.array_equal(found[name], tensor), name
    quantized = widened.quantized(made)
    name = "model.layers.0.mlp.up_proj.weight"
    again = quantize_rtn(wanted[name], 128)
    assert np.array_equal(quantized[name].qweight, again.qweight)
    assert quantized[name].group == 128
    assert not any("norm" in key or "embed" in key for key in quantized)
    config = json.loads((expected / "config.json").read_text())
    assert widened.config(made).hidden_size == config["hidden_size"]


def test_answers_are_judged_as_the_workload_does() -> None:
    questions = assistant_task.Questions()
    calls = [questions._tokenizer.encode(pair.call).ids for pair in questions.pairs[:20]]
    right = [[*call, questions.eos_id] for call in calls]
    assert questions.right(right) == 20
    assert questions.right([*right[:5], *right[6:11]]) == 5
    assert len(questions.prompts) == len(questions.pairs) == 1000


# ------------------------------------------------------------------------------------------- bench


def test_a_missing_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")

    monkeypatch.setattr(bench_run.importlib, "import_module", gone)
    with pytest.raises(Unavailable, match=r"the module pydantic is missing, .*typing-inspection"):
        bench_run.modules()


def record(folder: Path, executed_on: str) -> None:
    folder.mkdir(parents=True)
    results = [{"energy": {"status": "measured"}}]
    host = {"executed_on": executed_on}
    text = json.dumps({"complete": True, "host": host, "results": results})
    (folder / "record.json").write_text(text)


def run_with(monkeypatch: pytest.MonkeyPatch, code: int, text: str = "[]") -> None:
    monkeypatch.setattr(bench_run, "_run", lambda command, request: (code, text, "bench: said"))


def test_a_run_on_the_gpu_passes_with_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / bench_run.BUNDLES / "a", f"{GPU_KERNELS}NVIDIA H200")
    run_with(monkeypatch, bench_run.NOT_MET, json.dumps([{"kernel": "int4", "speedup": 2.5}]))
    data = bench_run.bench(request_of(tmp_path))
    assert (data["bundles"], data["complete"], data["energy"]) == (1, 1, ["measured"])
    [row] = data["tables"][0]["rows"]
    assert dict(zip(bench_run.SHOWN, row, strict=True))["speedup"] == 2.5
    assert "--device cuda" in data["command"]


@pytest.mark.parametrize(
    ("executed_on", "code", "message"),
    [
        ("CPU kernels on AMD EPYC", 0, "did not run on the GPU: CPU kernels"),
        (f"{GPU_KERNELS}NVIDIA H200", 4, "exit code 4: bench: said"),
        (None, 3, "no bundle: bench: said"),
    ],
)
def test_a_run_that_is_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executed_on: str | None,
    code: int,
    message: str,
) -> None:
    if executed_on is not None:
        record(tmp_path / bench_run.BUNDLES / "a", executed_on)
    run_with(monkeypatch, code)
    with pytest.raises(Failed, match=message):
        bench_run.bench(request_of(tmp_path))


# ----------------------------------------------------------------------------------------- library


def test_a_library_that_is_there_is_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "is_available", lambda: True)
    assert prepare.build_library(tmp_path) == {"library": "there"}
    assert native.LIBRARY_VARIABLE not in prepare.library_environment(tmp_path)


def test_without_a_compiler_the_lack_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "is_available", lambda: False)
    monkeypatch.setattr(prepare.shutil, "which", lambda tool: None)
    with pytest.raises(Unavailable, match="no cmake or g"):
        prepare.build_library(tmp_path)


def test_a_built_library_is_given_to_the_run(tmp_path: Path) -> None:
    path = prepare.built_library(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"")
    assert prepare.library_environment(tmp_path)[native.LIBRARY_VARIABLE] == str(path)
