"""What later stages need of the CPU: the widened model, the native library, `bench run`'s model."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from edgebench_kernels import native
from edgebench_kernels.cuda.check.events import Log, Unavailable
from edgebench_kernels.cuda.check.supervisor import ROOT
from edgebench_kernels.cuda.check.worker import Request
from gpu_stages import assistant_task, widened

LIBRARY_FOLDER = "native"
BENCH_MODELS = ("assistant@300m", "assistant@1b")


def run(log: Log, request: Request) -> None:
    """Each is for another stage, so one that fails stops none of the others."""
    folder = request.work / assistant_task.FOLDER
    log.item("assistant@1b", functools.partial(_widen, folder))
    log.item("native library", functools.partial(build_library, request.work))
    for name in BENCH_MODELS:
        log.item(f"{name} of bench run", functools.partial(_generate, name))


def _widen(folder: Path) -> dict[str, Any]:
    return widened.write(assistant_task.MODEL, folder, assistant_task.variant().plan)


def build_library(work: Path) -> dict[str, Any]:
    """Build the CPU kernels with CMake where no library is there; `bench run` needs them."""
    if native.is_available():
        return {"library": "there"}
    lacking = [tool for tool in ("cmake", "g++") if shutil.which(tool) is None]
    if lacking:
        raise Unavailable(f"no native library, and no {' or '.join(lacking)} to build it")
    folder = work / LIBRARY_FOLDER
    threads = str(native.default_threads())
    for command in (
        ["cmake", "-S", str(ROOT / "kernels"), "-B", str(folder)],
        ["cmake", "--build", str(folder), "-j", threads],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-1500:]}")
    return {"library": "built", "bytes": built_library(work).stat().st_size}


def built_library(work: Path) -> Path:
    """Where `build_library` puts it."""
    return work / LIBRARY_FOLDER / native.LIBRARY_NAME


def library_environment(work: Path) -> dict[str, str]:
    """The environment with the built library, where one was built."""
    path = built_library(work)
    return {**os.environ, **({native.LIBRARY_VARIABLE: str(path)} if path.exists() else {})}


def _generate(name: str) -> dict[str, Any]:
    """Into the cache that `bench run` reads."""
    from edgebench_workloads.catalog import WORKLOADS

    return {"folder": WORKLOADS[name].reference_directory().name}
