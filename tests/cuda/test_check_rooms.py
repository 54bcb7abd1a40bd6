"""Rooms of a GPU check that need no GPU: what they make of results, logs, versions, choices."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import paths  # noqa: E402
from edgebench_kernels.cuda.architectures import ARCHITECTURES  # noqa: E402
from edgebench_kernels.cuda.check import (  # noqa: E402
    choices,
    facts,
    layer,
    needed,
    precompile,
    sanitizer,
    suite,
    tunings,
)
from edgebench_kernels.cuda.check.events import Failed, Unavailable  # noqa: E402
from edgebench_kernels.cuda.check.recorder import Recorder  # noqa: E402
from edgebench_kernels.cuda.check.supervisor import ROOT  # noqa: E402
from edgebench_kernels.cuda.kernels import KERNELS  # noqa: E402
from edgebench_kernels.cuda.products import PRODUCTS  # noqa: E402

from .tiny_llama import CONFIG  # noqa: E402

pytestmark = pytest.mark.torch


# ------------------------------------------------------------------------------------------- suite


def lines(path: Path, *rows: tuple[str, str]) -> Path:
    text = "".join(
        json.dumps({"test": f"tests/cuda/test_x.py::{test}", "event": event, "text": "said"}) + "\n"
        for test, event in rows
    )
    path.write_text(text)
    return path


def test_results_of_a_module(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "r",
        *[("a", "begin"), ("a", "passed"), ("a", "end")],
        *[("b", "begin"), ("b", "failed"), ("b", "end")],
        *[("c", "begin"), ("c", "skipped"), ("c", "end")],
        ("d", "begin"),
    )
    told = suite.read_results(path)
    assert told.counts == {"passed": 1, "failed": 1, "skipped": 1, "did not end": 1}
    assert told.failures == {
        "test_x.py::b": "said",
        "test_x.py::d": "it did not end, or took its process down",
    }
    with pytest.raises(Failed, match=r"test_x\.py::b: said") as failed:
        suite.measured(told)
    assert failed.value.data["passed"] == 1


def test_a_module_of_which_nothing_ran_has_not_passed(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no test passed: usage: pytest"):
        suite.measured(suite.read_results(tmp_path / "none", "usage: pytest"))
    told = suite.read_results(lines(tmp_path / "r", ("a", "begin"), ("a", "passed")))
    assert suite.measured(told) == {"passed": 1}


def test_no_emulation_of_kernels_is_left_out() -> None:
    found = {path.stem for path in (ROOT / "tests" / "cuda").glob("test_*emulation.py")}
    assert found <= set(suite.MODULES)
    assert found <= set(sanitizer.MODULES)


def test_every_module_of_the_suite_is_there() -> None:
    for name in (*suite.MODULES, *sanitizer.MODULES):
        assert (ROOT / "tests" / "cuda" / f"{name}.py").is_file(), name


# --------------------------------------------------------------------------------------- sanitizer

PASSED = suite.Told(counts=Counter(passed=3), failures={}, output="")
CLEAN = {
    "memcheck": "========= ERROR SUMMARY: 0 errors\n",
    "racecheck": "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n",
}
FOUND = {
    "memcheck": "========= Invalid __global__ write\n========= ERROR SUMMARY: 2 errors\n",
    "racecheck": "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)\n",
}


@pytest.mark.parametrize("tool", CLEAN)
def test_a_clean_log_passes_and_a_finding_fails(tool: str) -> None:
    assert sanitizer.judged(PASSED, CLEAN[tool])["passed"] == 3
    with pytest.raises(Failed, match="SUMMARY"):
        sanitizer.judged(PASSED, FOUND[tool])
    with pytest.raises(Failed, match="SUMMARY"):
        sanitizer.judged(PASSED, FOUND[tool] + CLEAN[tool])


def test_a_tool_that_does_not_run_or_says_nothing() -> None:
    with pytest.raises(Unavailable, match=r"does not run here: .*Device not supported"):
        sanitizer.judged(PASSED, "========= Error: Device not supported\n")
    with pytest.raises(Failed, match="no summary"):
        sanitizer.judged(PASSED, "")
    wrong = suite.Told(counts=Counter(failed=1), failures={"x": "numbers"}, output="")
    with pytest.raises(Failed, match="x: numbers"):
        sanitizer.judged(wrong, CLEAN["memcheck"])


# ------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, "cuda-core is missing: pip install"),
        ("0.3.2", "cuda-core 0.3.2 is older than 0.7"),
        ("0.7.0", ""),
        ("1.2.2", ""),
    ],
)
def test_what_is_said_of_cuda_core(version: str | None, said: str) -> None:
    assert facts.cuda_core_note(version).startswith(said)
    assert bool(facts.cuda_core_note(version)) == bool(said)


def test_missing_packages_have_no_version() -> None:
    found = facts.versions()
    assert found["torch"] == torch.__version__
    assert found["humming-kernels"] is None


# ------------------------------------------------------------------------------------------ needed


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_table_times_what_the_paths_name(arch: str) -> None:
    for path in ("w4a16", "w4a8"):
        for m in layer.TOKENS:
            assert layer.is_applicable(paths.kernel_for(path, arch, m), arch, m), (path, m)


@pytest.mark.parametrize("arch", ["sm_87", "sm_90a"])
def test_what_is_going_to_be_launched_is_known_beforehand(arch: str) -> None:
    jobs = [*needed.timing_jobs(arch, 16), *needed.engine_jobs(arch, 16, CONFIG)]
    kernels = {kernel for kernel, _ in jobs}
    assert {"w4a16_gemv", "w4a16_gemm", "w4_dequant", "quantize", "w4a8_gemm"} <= kernels
    assert {"embed", "rms_norm", "rope_append", "decode_attention", "argmax", "advance"} <= kernels
    assert kernels <= set(KERNELS)
    assert all(arch in KERNELS[kernel].architectures for kernel in kernels)
    assert ("w4a16_wgmma" in kernels) == (arch == "sm_90a")


def test_every_product_is_a_contender_somewhere() -> None:
    for kernel in PRODUCTS:
        assert any(layer.is_applicable(kernel, "sm_90a", m) for m in layer.TOKENS), kernel


# ------------------------------------------------------------------------------------- precompile


def test_a_kernel_that_does_not_compile_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = precompile._compile(("no_such_kernel", (), "sm_90a"))
    assert row.size_bytes == 0
    assert "expected a kernel out of" in row.error
    table = precompile.compile_table([row, row])
    assert table["rows"][0][:2] == ["no_such_kernel", 2]
    assert table["rows"][0][-1] == 2


# ----------------------------------------------------------------------------------------- tunings


@pytest.mark.parametrize("arch", ["sm_87", "sm_90a"])
@pytest.mark.parametrize("m", choices.TASKS)
def test_choices_fit_the_gpu_and_are_different(arch: str, m: int) -> None:
    gpu = Recorder(arch, 132)
    for n, k in layer.SHAPES.values():
        linear = tunings._linear(m, n, k, gpu)  # type: ignore[arg-type]
        base, *others = tunings._all(linear, gpu)  # type: ignore[arg-type]
        texts = [choice.text for choice in (base, *others)]
        assert len(set(texts)) == len(texts)
        assert 8 <= len(others) <= 20
        for choice in (base, *others):
            macros = dict(choice.plan.macros)
            assert choice.plan.shared_bytes <= gpu.shared_bytes
            assert choice.plan.threads <= 1024
            assert choice.text.startswith(choice.plan.kernel)
            if choice.plan.kernel == paths.WGMMA:
                ring = macros["EB_BATCH"] * macros["EB_BATCHES"]
                assert 8 * macros["EB_TILES"] % ring == 0
                sums = macros["EB_TILES"] * macros["EB_TOKENS"] // 2  # of a thread
                assert sums <= 64 or macros["EB_PRODUCERS"] in (0, 4)
        if arch != "sm_90a":
            continue
        kernel = paths.kernel_for("w4a16", arch, m)
        assert base.plan.kernel == kernel, "what production takes is raced"
        expected = {paths.WGMMA} if m > 16 else set()
        expected |= {paths.CLUSTER} if m <= 64 else set()
        expected |= {paths.MULTICAST} if m >= layer.MULTICAST_FROM else set()
        assert {choice.plan.kernel for choice in others} == expected


def test_the_fastest_is_shown_first_and_the_default_named() -> None:
    times = {"d": [10.0] * 5, "a": [5.0] * 5, "b": [20.0] * 5, "c": [8.0] * 5, "e": []}
    rows = tunings.shown("o", "d", times)
    assert [row[1] for row in rows] == ["a", "c", "d (default)", "b"]
    assert [row[4] for row in rows] == [2.0, 1.25, 1.0, 0.5]
    assert tunings.shown("o", "d", {"d": []}) == []


def test_the_fastest_of_all_linears_are_summed() -> None:
    rows = [
        [name, choice, time_us, 0.0, over]
        for name in layer.SHAPES
        for choice, time_us, over in (
            ("torch fp16", 2.5, 4.0),
            ("fast", 5.0, 2.0),
            ("slow (default)", 10.0, 1.0),
        )
    ]
    sums = tunings.together({16: rows, 64: rows[:-3]})  # at 64 a linear is missing
    assert sums == [
        ["M = 16", "default", 40.0, None, 1.0],
        ["M = 16", "fastest of each", 20.0, None, 2.0],
        ["M = 16", "torch fp16", 10.0, None, 4.0],
    ]


def test_each_code_that_is_raced_is_tried_once() -> None:
    gpu = Recorder("sm_90a", 132)
    found = tunings._distinct(gpu)  # type: ignore[arg-type]
    names = [tunings.trial(choice) for _, _, choice in found]
    raced = {
        tunings.trial(choice)
        for m in choices.TASKS
        for n, k in layer.SHAPES.values()
        for choice in tunings._all(tunings._linear(m, n, k, gpu), gpu)  # type: ignore[arg-type]
    }
    assert len(set(names)) == len(names)
    assert set(names) == raced
