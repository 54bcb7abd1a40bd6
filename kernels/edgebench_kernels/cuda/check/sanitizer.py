"""The stage that runs emulation tests on the GPU under compute-sanitizer, a launch each.

Buffers are allocations of exactly their size then, so that memcheck sees a byte too many.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgebench_kernels.cuda.check import suite
from edgebench_kernels.cuda.check.events import Failed, Log, Unavailable
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.native import default_threads

TOOLS = ("memcheck", "racecheck")
MODULES = (
    "test_emulation",
    "test_cluster_emulation",
    "test_attention_emulation",
    "test_step_emulation",
    "test_choice_emulation",
    "test_w4a8_emulation",
    "test_row_scale_emulation",
    "test_wgmma_emulation",
    "test_multicast_emulation",
)
MOST_AT_ONCE = 12
TOOL_ERRORS = 99
"""Exit code that the tool is told to give where it found something."""

FOLDERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: .*")
UNSUPPORTED = ("Device not supported", "Unable to find injection library", "LibraryNotLoaded")


def run(log: Log, request: Request) -> None:
    """An item for each tool and module, several at a time; the longest, memcheck's, begin first."""
    tool = find_tool()
    if tool is None or importlib.util.find_spec("pytest") is None:
        log.item("compute-sanitizer", functools.partial(_lacking, tool))
        return
    with ThreadPoolExecutor(min(MOST_AT_ONCE, default_threads())) as pool:
        futures = {
            f"{kind} {name}": pool.submit(sanitize, tool, kind, name, request)
            for kind in TOOLS
            for name in MODULES
            if log.status(f"{kind} {name}") is None
        }
        for item, future in futures.items():
            log.item(item, future.result)


def find_tool() -> str | None:
    """compute-sanitizer, on the PATH or where CUDA puts it."""
    found = shutil.which("compute-sanitizer")
    places = [Path(folder) / "compute-sanitizer" for folder in FOLDERS]
    return found or next((str(place) for place in places if place.is_file()), None)


def sanitize(tool: str, kind: str, name: str, request: Request) -> dict[str, Any]:
    """Failed where the tool found something, or a test failed under it."""
    if request.left_s() < 6:
        raise Unavailable("too little time was left for it")
    log_file = request.work / f"{kind}-{name}.log"
    prefix = [
        *(tool, "--tool", kind, "--error-exitcode", str(TOOL_ERRORS)),
        *("--log-file", str(log_file), "--print-limit", "20"),
    ]
    told = suite.told_under(kind, name, request, prefix)
    text = log_file.read_text(errors="replace") if log_file.exists() else ""
    return judged(told, text)


def judged(told: suite.Told, text: str) -> dict[str, Any]:
    """What the tool's log and the tests together say."""
    if any(phrase in text + told.output for phrase in UNSUPPORTED):
        raise Unavailable(f"compute-sanitizer does not run here: {_first(text, told.output)}")
    summaries = SUMMARY.findall(text)
    data: dict[str, Any] = {
        **{name: told.counts[name] for name in sorted(told.counts)},
        "tool": summaries[-1] if summaries else "",
    }
    if not summaries:
        raise Failed(f"the tool gave no summary: {(text or told.output)[-800:]}", data)
    if not all(re.search(r"SUMMARY: 0 (?:errors|hazards)", one) for one in summaries):
        raise Failed(text[-1800:], data)
    if told.failures:
        test, said = next(iter(told.failures.items()))
        raise Failed(f"{test}: {said}", data)
    return data


def _first(*texts: str) -> str:
    lines = [line for text in texts for line in text.splitlines()]
    return next((line for line in lines if any(p in line for p in UNSUPPORTED)), "")


def _lacking(tool: str | None) -> dict[str, Any]:
    raise Unavailable("compute-sanitizer was not found" if tool is None else "pytest is missing")
