"""The stage that runs the emulation tests on the GPU, several modules at a time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebench_kernels.cuda.check.events import Failed, Log, Unavailable
from edgebench_kernels.cuda.check.supervisor import ROOT
from edgebench_kernels.cuda.check.worker import Request

MODULES = (
    "test_emulator",
    "test_primitives",
    "test_wgmma_primitives",
    "test_cluster_primitives",
    "test_bulk_primitives",
    "test_emulation",
    "test_cluster_emulation",
    "test_step_emulation",
    "test_choice_emulation",
    "test_attention_emulation",
    "test_w4a8_emulation",
    "test_row_scale_emulation",
    "test_wgmma_emulation",
    "test_multicast_emulation",
)
AT_ONCE = 4
EXIT_LOST = 77
NO_TESTS = 5
MOST_PROCESSES = 4
"""For one module: each goes on behind the test that took the one before it down."""

CONFIGURATION = """[pytest]
addopts = --import-mode=importlib -p no:cacheprovider
filterwarnings = default
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the tests of a module came to."""

    counts: Counter[str]
    failures: dict[str, str]
    output: str


def run(log: Log, request: Request) -> None:
    """An item for each module; they share the GPU, which only makes their order less tame."""
    if importlib.util.find_spec("pytest") is None:
        log.item("pytest", _missing)
        return
    found = [name for name in MODULES if (ROOT / "tests" / "cuda" / f"{name}.py").exists()]
    if not found:
        log.item("tests", _no_checkout)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {
            name: pool.submit(told_of, name, request) for name in found if log.status(name) is None
        }
        for name, future in futures.items():
            log.item(name, lambda future=future: measured(future.result()))  # type: ignore[misc]


def measured(told: Told) -> dict[str, Any]:
    """The data of an item; Failed with the first failures."""
    data = {name: told.counts[name] for name in sorted(told.counts)}
    if told.failures:
        shown = [f"{test}: {text}" for test, text in list(told.failures.items())[:5]]
        raise Failed("\n".join(shown), {**data, "failures": told.failures})
    if not told.counts["passed"]:
        raise Failed(f"no test passed: {told.output}", data)
    return data


def told_of(name: str, request: Request) -> Told:
    """Run a module's tests, again behind each that takes its process down."""
    return _told(request.work / f"{name}.jsonl", name, request, (), ())


def told_under(tool: str, name: str, request: Request, prefix: Sequence[str]) -> Told:
    """The same with exact allocations, by a command that runs commands."""
    results = request.work / f"{tool}-{name}.jsonl"
    return _told(results, name, request, ("--gpu-exact",), prefix)


def _told(
    results: Path, name: str, request: Request, options: Sequence[str], prefix: Sequence[str]
) -> Told:
    output = ""
    for _ in range(MOST_PROCESSES):
        command = [*prefix, *pytest_command(name, results, request.work), *options]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=max(1.0, request.left_s() - 2),
                check=False,
            )
        except subprocess.TimeoutExpired as err:
            output += _text(err.stdout)[-1500:] + "\nended: no time was left"
            break
        output = (done.stdout + done.stderr)[-1500:]
        is_over = done.returncode in (0, 1, NO_TESTS)
        if is_over or request.left_s() < 5:
            break
    return read_results(results, output)


def pytest_command(name: str, results: Path, work: Path) -> list[str]:
    """The module's tests with the GPU in the emulator's place, and no other plugin."""
    configuration = work / "pytest.ini"
    if not configuration.exists():
        partial = work / f"pytest.ini.{os.getpid()}.{threading.get_ident()}"
        partial.write_text(CONFIGURATION)
        partial.replace(configuration)
    return [
        *(sys.executable, "-m", "pytest", "-q", "-c", str(configuration), "--rootdir", str(ROOT)),
        *("-p", "tests.cuda.on_gpu", "--gpu-results", str(results), "--tb=short"),
        str(ROOT / "tests" / "cuda" / f"{name}.py"),
    ]


def environment() -> dict[str, str]:
    """With the checkout's tests importable, and pytest's other plugins left out."""
    roots = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(roots),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


def read_results(path: Path, output: str = "") -> Told:
    """The plugin's lines; a test that began and did not end took its process down."""
    state: dict[str, str] = {}
    failures: dict[str, str] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            row = json.loads(line)
            test, event = row["test"].rpartition("/")[2], row["event"]
            if event == "begin":
                state[test] = "did not end"
            elif event != "end":
                state[test] = event if state.get(test) != "failed" else "failed"
                if event == "failed":
                    failures[test] = row.get("text", "")
    for test, event in state.items():
        if event == "did not end":
            failures[test] = "it did not end, or took its process down"
    return Told(counts=Counter(state.values()), failures=failures, output=output)


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _missing() -> dict[str, Any]:
    raise Unavailable("pytest is missing: the kernels were checked on real shapes only")


def _no_checkout() -> dict[str, Any]:
    raise Unavailable(f"no tests/cuda in {ROOT}: run kernels/perf/gpu_check.py of a checkout")
