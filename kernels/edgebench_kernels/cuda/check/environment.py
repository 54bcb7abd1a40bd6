"""The first stage: what the machine is, whether it can run kernels at all, and its two ceilings."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from typing import Any

from edgebench_kernels.cuda.check import facts, precompile
from edgebench_kernels.cuda.check.events import Failed, Log
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.cuda.compile import nvrtc_version
from edgebench_kernels.cuda.driver import Gpu


def run(log: Log, request: Request) -> None:
    """An item for each question; the GPU's decides whether the check goes on."""
    log.item("versions", _versions)
    log.item("gpu", _gpu)
    log.item("state", facts.state)
    log.item("torch", _torch)
    log.item("compile", _compile)
    log.item("ceilings", _ceilings)


def _versions() -> dict[str, Any]:
    found = facts.versions()
    note = facts.cuda_core_note(found["cuda-core"])
    return {"platform": platform.platform(), **found, **({"note": note} if note else {})}


def _gpu() -> dict[str, Any]:
    gpu = Gpu.open()
    found = facts.gpu_facts(gpu)
    others = gpu.other_processes()
    return {
        "gpu_name": found.name,
        "driver": facts.driver_version(),
        "nvrtc": nvrtc_version(),
        **asdict(found),
        "other_processes": None if others is None else len(others),
    }


def _torch() -> dict[str, Any]:
    import torch

    from edgebench_kernels.cuda.launcher import launcher_of

    launcher = launcher_of("cuda")
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "multiprocessors": launcher.multiprocessors,
        "can_overlap": launcher.can_overlap,
    }


def _ceilings() -> dict[str, Any]:
    from edgebench_kernels.cuda.check import ceilings

    return ceilings.measured()


def _compile() -> dict[str, Any]:
    """All that later stages launch, as far as their code says it without a GPU."""
    from edgebench_kernels.cuda.check import needed
    from edgebench_kernels.cuda.check.checkout import tests_module
    from edgebench_kernels.cuda.check.real_shapes import place

    found = facts.gpu_facts(Gpu.open())
    gpu = (found.arch, found.multiprocessors)
    jobs = precompile.table_jobs(found.arch)
    problems = []
    sources = {
        "real shapes": lambda: [
            (plan.kernel, plan.macros)
            for check in tests_module("real_shapes").checks(place())
            for plan in check.plans
        ],
        "timing": lambda: needed.timing_jobs(*gpu),
        "engine": lambda: needed.engine_jobs(*gpu),
    }
    for name, source in sources.items():
        try:
            jobs += source()
        except Exception as err:  # noqa: BLE001 (they are compiled later, when they are launched)
            problems.append(f"{name}: {type(err).__name__}: {err}")
    begin = time.monotonic()
    rows = precompile.compile_all(jobs, found.arch)
    data = {
        "cubins": len(rows),
        "from_cache": sum(row.is_from_cache for row in rows),
        "wall_s": time.monotonic() - begin,
        "not_foreseen": "; ".join(problems),
        "tables": [precompile.compile_table(rows)],
    }
    if errors := [row.error for row in rows if row.error]:
        raise Failed("\n".join(errors), data)
    return data
