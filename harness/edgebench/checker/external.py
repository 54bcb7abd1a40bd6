"""An external engine: its bundle says so everywhere, and claims nothing that cannot be checked."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.checker.subject import Subject
from edgebench.findings import Finding, finding
from edgebench.profiles import EXTERNAL, EXTERNAL_TRANSFORM
from edgebench.record import KernelResult, RooflinePlace


def check_external(subject: Subject) -> Iterator[Finding]:
    """E-01: the server is named, no weights are claimed; E-02 tells that none are checked."""
    server = subject.bundle.record.external
    if (server is not None) != subject.is_external:
        expected = "the server" if subject.is_external else "no server"
        came = "none" if server is None else server.url
        yield finding("E-01", f"{expected} in the record", came)
    if not subject.is_external:
        return
    ledger = subject.bundle.ledger
    claimed = [*(step.transform for step in ledger.steps), *ledger.tensors, *ledger.folded]
    bundle = subject.bundle
    files = (bundle.tensors_path, bundle.folded_path, bundle.open_path, bundle.coded_path)
    has_file = next(filter(None, files), None) or ledger.tensors_file
    if claimed or has_file:
        yield finding("E-01", "a ledger without steps or tensors", claimed[:3] or has_file)
    for result in subject.bundle.record.results:
        if result.kernel == EXTERNAL:
            yield from _claims(result)
    yield finding("E-02", "weights that can be checked", "an external engine's")


def _claims(result: KernelResult) -> Iterator[Finding]:
    """Report what a result says of weights that nobody here has seen."""
    if result.transform != EXTERNAL_TRANSFORM:
        yield finding("E-01", f"transform {EXTERNAL_TRANSFORM!r}", result.transform)
    for name in ("weight_bytes", "peak_memory_bytes"):
        if (came := getattr(result, name)) is not None:
            yield finding("E-01", f"{name} null", came)
    if result.roofline != RooflinePlace(reason=result.roofline.reason):
        yield finding("E-01", "no place under the roofline", result.roofline)
