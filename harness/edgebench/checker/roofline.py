"""Roofline: ceilings are medians of repeats, and no kernel beats the machine."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.checker.derivation import equal
from edgebench.checker.subject import Subject
from edgebench.derive import REFERENCE, derive_ceilings
from edgebench.errors import MeasurementInvalid
from edgebench.findings import Finding, finding
from edgebench.profiles import (
    BYTES_PER_WEIGHT,
    MIN_CEILING_REPEATS,
    PADDED_TO,
    SPARSE_BYTES_PER_WEIGHT,
    SPARSE_PATH,
)
from edgebench.record import Ceiling, CeilingRow, KernelResult
from edgebench.verdict import over_the_roof


def check_ceilings(subject: Subject) -> Iterator[Finding]:
    """R-01: each ceiling is the median of enough repeats of one instruction, through the run."""
    record = subject.bundle.record
    expected = {ceiling.ceiling: ceiling for ceiling in derive_ceilings(subject.bundle.ceilings)}
    published = {ceiling.ceiling: ceiling for ceiling in record.ceilings}
    if published.keys() != expected.keys() or len(published) != len(record.ceilings):
        text = f"the ceilings {', '.join(sorted(expected)) or 'of ceilings.jsonl'}, once each"
        came = ", ".join(ceiling.ceiling for ceiling in record.ceilings)
        yield finding("R-01", text, came or "none")
        return
    needed = {"read_bandwidth"} | {
        result.roofline.compute_ceiling
        for result in record.results
        if result.roofline.compute_ceiling
    }
    if missing := sorted(needed - expected.keys()):
        yield finding("R-01", f"the ceilings {', '.join(sorted(needed))}", f"no {missing[0]}")
    for name, right in expected.items():
        own = published[name]
        same = (own.instruction, own.repeats) == (right.instruction, right.repeats)
        if not same or not equal(own.median, right.median) or not _same_highest(own, right):
            yield finding("R-01", f"{name} = {right}", own)
        rows = [row for row in subject.bundle.ceilings if row.ceiling == name]
        yield from _check_repeats(subject, name, rows)


def _same_highest(own: Ceiling, right: Ceiling) -> bool:
    return own.highest is None or equal(own.highest, right.highest)


def _check_repeats(subject: Subject, name: str, rows: list[CeilingRow]) -> Iterator[Finding]:
    if len(rows) < MIN_CEILING_REPEATS:
        yield finding("R-01", f"{MIN_CEILING_REPEATS} repeats of {name}", len(rows))
    ran = sorted({(row.instruction, row.threads) for row in rows})
    threads = subject.bundle.record.host.threads
    if len(ran) != 1 or ran[0][1] != threads:
        yield finding("R-01", f"one instruction on {threads} threads for {name}", ran)
    performance = [row for row in subject.bundle.samples if row.mode == "performance"]
    start = min(row.issued_ns for row in performance)
    middle = (start + max(row.completed_ns for row in performance)) // 2
    early = sum(row.taken_ns < middle for row in rows)
    if not 0 < early < len(rows):
        came = f"{early} before and {len(rows) - early} after it"
        yield finding("R-01", f"repeats of {name} before and after the run's middle", came)


def check_places(subject: Subject) -> Iterator[Finding]:
    """R-03, R-04: nothing is over what the machine was seen to reach, or over its median."""
    try:
        derived = subject.derived
    except MeasurementInvalid:
        return  # N-01 says so
    roof = derive_ceilings(subject.bundle.ceilings)
    for result in derived:
        for over in over_the_roof(result, roof):
            whose = "highest" if over.rule == "R-03" else "median"
            text = f"{result.kernel} <= {over.limit:g} % of the {whose} {over.what}"
            yield finding(over.rule, text, f"{over.percent:.1f} %")


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _is_sparse(result: KernelResult) -> bool:
    """Whether INT4 says that it ran over weights packed 2:4."""
    return result.kernel == "int4" and result.executed_path.split("/")[0] == SPARSE_PATH


def check_weight_bytes(subject: Subject) -> Iterator[Finding]:
    """R-05: the streamed bytes are those of the linear layers that ran, padded where INT4 is."""
    for result in subject.bundle.record.results:
        if result.kernel not in BYTES_PER_WEIGHT:
            continue  # E-01: an external engine's are unknown
        is_reference = result.kernel == REFERENCE
        shapes = subject.workload.shapes if is_reference else subject.candidate_shapes
        weights = sum(n * k for n, k in shapes.values())
        padded = sum(
            _padded(n, PADDED_TO[0]) * _padded(k, PADDED_TO[1]) for n, k in shapes.values()
        )
        low, high = BYTES_PER_WEIGHT[result.kernel]
        if subject.bundle.ledger.open_model is not None and _is_sparse(result):
            low = SPARSE_BYTES_PER_WEIGHT
        least, most = low * weights, high * (padded if result.kernel == "int4" else weights)
        if result.weight_bytes is None or not least <= result.weight_bytes <= most:
            text = f"{result.kernel} weight_bytes within {least:.0f} to {most:.0f}"
            yield finding("R-05", text, result.weight_bytes)
