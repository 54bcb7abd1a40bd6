"""The stage that runs `bench run` on the GPU, as a user would, and keeps its bundles."""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgebench_kernels.cuda.check.command import BUNDLES
from edgebench_kernels.cuda.check.events import Failed, Log, Unavailable
from edgebench_kernels.cuda.check.tables import table
from edgebench_kernels.cuda.check.worker import Request
from gpu_stages.prepare import BENCH_MODELS, library_environment

NEEDED = ("edgebench.cli", "edgebench.command_run", "edgebench.engines_cpu")
WORKLOADS = ",".join(("assistant", *BENCH_MODELS))
KEPT_S = 8.0
"""Between the budget that the run is given and the end of the stage."""

OK, NOT_MET = 0, 5
SHOWN = (
    "workload",
    "scenario",
    "kernel",
    "latency_p90_ms",
    "samples_per_s",
    "tokens_per_s",
    "speedup",
    "accuracy",
    "valid",
    "executed_path",
)


def run(log: Log, request: Request) -> None:
    """First whether it can run here, then the run."""
    log.item("modules", modules)
    if log.status("modules") == "passed":
        log.item("run", functools.partial(bench, request))


def modules() -> dict[str, Any]:
    """Unavailable with the name of the first module that is missing, and the fix."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as err:
            raise Unavailable(
                f"the module {err.name} is missing, which `bench run` imports; install it, or put "
                "its wheel (pydantic also needs pydantic-core, annotated-types, "
                "typing-inspection) on PYTHONPATH"
            ) from err
    return {"imported": ",".join(NEEDED)}


def bench(request: Request) -> dict[str, Any]:
    """Run it within the stage's time; Failed where it measured on something else than a GPU."""
    out = request.work / BUNDLES
    minutes = max(0.1, (request.left_s() - KEPT_S) / 60)
    command = [
        *(sys.executable, "-m", "edgebench", "run", "--track", "closed", "--device", "cuda"),
        *("--workload", WORKLOADS, "--profile", "quick", "--budget", f"{minutes:.2f}"),
        *("--out", BUNDLES, "--format", "json"),
    ]
    code, text, said = _run(command, request)
    data: dict[str, Any] = {"exit_code": code, "command": " ".join(command[1:]), "said": said}
    data |= read_bundles(out)
    rows = _rows(text)
    data["tables"] = [table(SHOWN, [[row.get(name) for name in SHOWN] for row in rows])]
    if not data["executed_on"]:
        raise Failed(f"no bundle: {said[-1000:]}", data)
    from edgebench.devices import is_on_gpu

    elsewhere = [text for text in data["executed_on"] if not is_on_gpu(text)]
    if elsewhere:
        raise Failed(f"it did not run on the GPU: {elsewhere[0]}", data)
    if code not in (OK, NOT_MET):
        raise Failed(f"exit code {code}: {said[-1000:]}", data)
    return data


def read_bundles(out: Path) -> dict[str, Any]:
    """What the records say of where they ran and what they measured."""
    records = [json.loads(path.read_text()) for path in sorted(out.rglob("record.json"))]
    return {
        "bundles": len(records),
        "complete": sum(bool(record["complete"]) for record in records),
        "executed_on": sorted({record["host"]["executed_on"] for record in records}),
        "energy": sorted(
            {result["energy"]["status"] for record in records for result in record["results"]}
        ),
    }


def _run(command: list[str], request: Request) -> tuple[int, str, str]:
    """Exit code, stdout, and the end of stderr; interrupted shortly before the stage's end."""
    process = subprocess.Popen(
        command,
        cwd=request.work,  # so that the record names no folder of this machine
        env=library_environment(request.work) | {"PYTHONPATH": _absolute_roots()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        text, said = process.communicate(timeout=max(1.0, request.left_s() - 4))
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGINT)
        try:
            text, said = process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            text, said = process.communicate()
    return process.returncode, text, said[-3000:]


def _absolute_roots() -> str:
    """PYTHONPATH, as it means the same from another folder."""
    roots = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(str(Path(root).resolve()) for root in roots if root)


def _rows(text: str) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(text)
    except json.JSONDecodeError:
        return []
    return rows
