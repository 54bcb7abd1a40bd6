"""Derivation: every published number is derived again from the rows and must be equal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from edgebench.checker.subject import Subject
from edgebench.errors import MeasurementInvalid
from edgebench.findings import Finding, finding
from edgebench.profiles import RELATIVE_TOLERANCE
from edgebench.record import KernelResult

RULE_OF_FIELD: Mapping[str, str] = {
    "samples": "N-01",
    "queries": "N-01",
    "duration_s": "N-01",
    "latency_p50_ms": "N-01",
    "latency_p90_ms": "N-01",
    "latency_p90_raw_ms": "N-01",
    "ttft_p90_ms": "N-01",
    "tpot_p90_ms": "N-01",
    "samples_per_s": "N-01",
    "tokens_per_s": "N-01",
    "mean_output_tokens": "N-01",
    "speedup": "N-02",
    "speedup_ci95": "N-02",
    "accuracy": "Q-01",
    "accuracy_samples": "Q-01",
    "accuracy_reference": "Q-01",
    "accuracy_ratio": "Q-01",
    "accuracy_passed": "Q-01",
    "call_nll": "Q-06",
}
ROOFLINE_FIELDS = (
    "bytes_per_token",
    "operations_per_token",
    "percent_of_bandwidth",
    "percent_of_compute",
)


def equal(came: object, expected: object) -> bool:
    """Whether two published values are the same number, up to the JSON round trip."""
    if isinstance(came, tuple) and isinstance(expected, tuple):
        return len(came) == len(expected) and all(map(equal, came, expected))
    if isinstance(came, float) and isinstance(expected, float | int):
        return math.isclose(came, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return came == expected


def check_numbers(subject: Subject) -> Iterator[Finding]:
    """N-01, N-02, Q-01, Q-06, R-02: each field of each result equals its derivation."""
    try:
        derived = subject.derived
    except MeasurementInvalid as err:
        yield finding("N-01", "rows from which numbers can be derived", err)
        return
    for published, expected in zip(subject.bundle.record.results, derived, strict=True):
        for name, rule in RULE_OF_FIELD.items():
            yield from _compare(rule, name, published, expected)
        for name in ROOFLINE_FIELDS:
            came, right = getattr(published.roofline, name), getattr(expected.roofline, name)
            if not equal(came, right):
                yield finding("R-02", f"{published.kernel} {name} = {right}", came)
        if (published.roofline.reason is None) != (expected.roofline.reason is None):
            text = f"a reason for a missing percentage: {expected.roofline.reason}"
            yield finding("R-02", text, published.roofline.reason)


def _compare(
    rule: str, name: str, published: KernelResult, expected: KernelResult
) -> Iterator[Finding]:
    came, right = getattr(published, name), getattr(expected, name)
    if not equal(came, right):
        yield finding(rule, f"{published.kernel} {name} = {right}", came)


def check_verdict(subject: Subject) -> Iterator[Finding]:
    """S-07: what the rules make invalid or worth a warning, the record says so itself."""
    try:
        derived = subject.derived
    except MeasurementInvalid:
        return  # N-01 says so
    for published, expected in zip(subject.bundle.record.results, derived, strict=True):
        for name in ("invalid_reasons", "warnings"):
            missing = _rules(getattr(expected, name)) - _rules(getattr(published, name))
            if missing:
                text = f"{published.kernel} {name} to name {', '.join(sorted(missing))}"
                yield finding("S-07", text, getattr(published, name))
        if published.valid == bool(published.invalid_reasons):
            text = f"{published.kernel} to be valid exactly without invalid_reasons"
            yield finding("S-07", text, f"valid: {published.valid}")


def _rules(texts: list[str]) -> set[str]:
    """Return the rule ids that texts open with; the wording may change between versions."""
    return {text.partition(":")[0] for text in texts}
