"""Compiles kernels on all CPUs, a process each, so that no stage waits for NVRTC."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgebench_kernels.cuda.check.tables import table
from edgebench_kernels.cuda.kernels import KERNELS, build
from edgebench_kernels.native import default_threads

Job = tuple[str, tuple[tuple[str, int], ...]]
"""A kernel of the table and its macros."""

MOST_PROCESSES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A cubin's making; error: why there is none."""

    kernel: str
    seconds: float
    is_from_cache: bool
    size_bytes: int
    error: str = ""


def table_jobs(arch: str) -> list[Job]:
    """What the census watches on an architecture."""
    return [
        (name, variant.macros)
        for name, kernel in KERNELS.items()
        if arch in kernel.architectures
        for variant in kernel.variants
    ]


def compile_all(jobs: Iterable[Job], arch: str) -> list[Compiled]:
    """Each job once; what fails to compile has its error."""
    distinct = list(dict.fromkeys(jobs))
    processes = max(1, min(default_threads(), MOST_PROCESSES, len(distinct)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return list(pool.map(_compile, [(name, macros, arch) for name, macros in distinct]))


def _compile(job: tuple[str, tuple[tuple[str, int], ...], str]) -> Compiled:
    name, macros, arch = job
    begin = time.perf_counter()
    try:
        made = build(name, arch, dict(macros))
    except Exception as err:  # noqa: BLE001 (its text is the row)
        seconds = time.perf_counter() - begin
        text = f"{dict(macros)}: {type(err).__name__}: {err}"
        return Compiled(kernel=name, seconds=seconds, is_from_cache=False, size_bytes=0, error=text)
    return Compiled(
        kernel=name,
        seconds=time.perf_counter() - begin,
        is_from_cache=made.is_from_cache,
        size_bytes=len(made.code),
    )


def compile_table(rows: list[Compiled]) -> dict[str, Any]:
    """A row a kernel."""
    kernels = dict.fromkeys(row.kernel for row in rows)
    lines = []
    for kernel in kernels:
        mine = [row for row in rows if row.kernel == kernel]
        seconds = [row.seconds for row in mine]
        largest = max(row.size_bytes for row in mine) / 1e3
        failed = sum(bool(row.error) for row in mine)
        lines.append([kernel, len(mine), sum(seconds), max(seconds), largest, failed])
    columns = ("kernel", "cubins", "s in all", "s at most", "largest KB", "failed")
    return table(columns, lines, "NVRTC")
