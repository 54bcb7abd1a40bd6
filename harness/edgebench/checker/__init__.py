"""The checker: applies the rulebook to a bundle and derives every published number again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgebench.bundle import read_bundle
from edgebench.checker import (
    accuracy,
    derivation,
    duration,
    external,
    folded,
    power,
    provenance,
    roofline,
    schedule,
    structure,
    weights,
)
from edgebench.checker.known import Lookup, known_workload
from edgebench.checker.subject import KnownWorkload, Subject
from edgebench.errors import SpecError
from edgebench.findings import BundleRefused, Finding, finding

__all__ = [
    "CHECKS",
    "READING",
    "Check",
    "KnownWorkload",
    "check",
    "check_or_raise",
    "known_workload",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: the rules that it applies, and whether the others need it to hold first."""

    rules: tuple[str, ...]
    run: Callable[[Subject], Iterator[Finding]]
    is_gate: bool = False


READING = ("S-01", "S-02", "S-03", "S-04", "S-05")
"""The rules that reading a bundle applies; they refuse it at once."""

CHECKS: tuple[Check, ...] = (
    # The gates: without these rows mean nothing, and nothing can be derived from them.
    Check(rules=("S-06",), run=structure.check_kernels, is_gate=True),
    Check(rules=("D-07",), run=schedule.check_rows, is_gate=True),
    Check(rules=("D-05",), run=schedule.check_times, is_gate=True),
    Check(rules=("D-06",), run=schedule.check_pairs, is_gate=True),
    Check(rules=("Q-08",), run=accuracy.check_outputs, is_gate=True),
    # What was measured.
    Check(rules=("S-02",), run=structure.check_system),
    Check(rules=("D-01",), run=duration.check_duration),
    Check(rules=("D-02", "N-03"), run=duration.check_counts),
    Check(rules=("D-03",), run=duration.check_blocks),
    Check(rules=("D-04",), run=duration.check_stamps),
    Check(rules=("D-08",), run=schedule.check_seeds),
    Check(rules=("D-09",), run=duration.check_alone),
    # What was published.
    Check(rules=("N-01", "N-02", "Q-01", "Q-06", "R-02"), run=derivation.check_numbers),
    Check(rules=("P-01",), run=power.check_energy),
    Check(rules=("P-02",), run=power.check_absence),
    Check(rules=("R-01",), run=roofline.check_ceilings),
    Check(rules=("R-03", "R-04"), run=roofline.check_places),
    Check(rules=("R-05",), run=roofline.check_weight_bytes),
    # What was answered.
    Check(rules=("Q-02", "Q-04"), run=accuracy.check_gate),
    Check(rules=("Q-03",), run=accuracy.check_reference),
    Check(rules=("Q-05",), run=accuracy.check_same_outputs),
    Check(rules=("Q-06",), run=accuracy.check_nll),
    Check(rules=("Q-07",), run=accuracy.check_coverage),
    # What ran.
    Check(rules=("W-01", "W-03"), run=provenance.check_identity),
    Check(rules=("W-02",), run=provenance.check_calibration),
    Check(rules=("W-07", "W-08"), run=provenance.check_track),
    Check(rules=("W-09",), run=provenance.check_verified),
    Check(rules=("W-06",), run=provenance.check_chain),
    Check(rules=("W-06",), run=folded.check_folded),
    Check(rules=("W-03", "W-04", "W-05", "W-06", "W-09"), run=weights.check_weights),
    Check(rules=("W-10", "W-11"), run=external.check_external),
    # The record's own verdict.
    Check(rules=("S-07",), run=derivation.check_verdict),
)


def check(
    path: Path, *, tensors: Path | None = None, lookup: Lookup = known_workload
) -> list[Finding]:
    """Return every finding of a bundle; an empty list means that it keeps all rules.

    tensors: folder with int4.safetensors for a bundle that holds none. Raises AssetError where the
    workload's own files are missing or altered: then nothing can be said of the bundle.
    """
    try:
        bundle = read_bundle(path)
    except BundleRefused as err:
        return [err.finding]
    try:
        workload = lookup(bundle.record.workload.name)
    except SpecError:
        return [finding("W-01", "a workload of the catalog", bundle.record.workload.name)]
    subject = Subject(bundle=bundle, workload=workload, tensors_folder=tensors)
    findings = [found for item in CHECKS if item.is_gate for found in item.run(subject)]
    if not any(found.severity == "error" for found in findings):
        findings += [found for item in CHECKS if not item.is_gate for found in item.run(subject)]
    return findings + _contradictions(subject, findings)


def _contradictions(subject: Subject, findings: list[Finding]) -> list[Finding]:
    """S-07: a record may not call results valid while a rule is broken that none of them names.

    A missed accuracy gate is declared by accuracy_passed, so it does not count here.
    """
    results = subject.bundle.record.results
    told = {text.partition(":")[0] for result in results for text in result.invalid_reasons}
    told |= {"Q-02", "Q-04", "S-07"}
    broken = {found.rule_id for found in findings if found.severity == "error"} - told
    claims = [result.kernel for result in results if result.valid]
    if not broken or not claims:
        return []
    text = f"valid: false while {', '.join(sorted(broken))} is broken"
    return [finding("S-07", text, f"valid: true on {', '.join(claims)}")]


def check_or_raise(
    path: Path, *, tensors: Path | None = None, lookup: Lookup = known_workload
) -> list[Finding]:
    """Check a bundle; raise BundleRefused (exit 5) on the first error, else return the warnings."""
    findings = check(path, tensors=tensors, lookup=lookup)
    for found in findings:
        if found.severity == "error":
            raise BundleRefused(found)
    return findings
