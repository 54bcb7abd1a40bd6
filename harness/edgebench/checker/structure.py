"""Structure: what the read bundle must hold; reading itself enforces S-01 to S-05."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.checker.subject import Subject
from edgebench.derive import REFERENCE
from edgebench.devices import is_on_gpu
from edgebench.findings import Finding, finding
from edgebench.profiles import CANDIDATES


def check_kernels(subject: Subject) -> Iterator[Finding]:
    """S-06: the reference and one candidate have one result each, and every row is of one."""
    if sorted(subject.kernels) not in [sorted((REFERENCE, other)) for other in CANDIDATES]:
        came = ", ".join(subject.kernels) or "none"
        expected = f"one result for {REFERENCE} and one for {' or '.join(CANDIDATES)}"
        yield finding("S-06", expected, came)
    strangers = {row.kernel for row in subject.bundle.samples} - {*subject.kernels}
    if strangers:
        yield finding(
            "S-06", "rows of the kernels that have a result", ", ".join(sorted(strangers))
        )
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
