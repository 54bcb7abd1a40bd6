"""Structure: what the read bundle must hold; reading itself enforces S-01 to S-05."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from edgebench.checker.subject import Subject
from edgebench.devices import is_on_gpu
from edgebench.findings import Finding, finding
from edgebench.record import Kernel


def check_kernels(subject: Subject) -> Iterator[Finding]:
    """S-06: both kernels have one result each."""
    expected = sorted(get_args(Kernel))
    if sorted(subject.kernels) != expected:
        came = ", ".join(subject.kernels) or "none"
        yield finding("S-06", f"one result for each of {', '.join(expected)}", came)
    for kernel in subject.kernels:
        if not subject.rows(kernel, "performance"):
            yield finding("S-06", f"performance samples of {kernel}", "none")


def check_system(subject: Subject) -> Iterator[Finding]:
    """S-02: the record speaks of the machine that system.json describes."""
    record, system = subject.bundle.record, subject.bundle.system
    if record.system != system.name:
        yield finding("S-02", f"the system {system.name} of system.json", record.system)
    cache = system.cpu.last_level_cache_bytes
    if is_on_gpu(record.host.executed_on):
        cache = system.gpus[0].l2_cache_bytes if system.gpus else None
    if record.host.last_level_cache_bytes != cache:
        came = record.host.last_level_cache_bytes
        yield finding("S-02", f"last_level_cache_bytes {cache} of system.json", came)
