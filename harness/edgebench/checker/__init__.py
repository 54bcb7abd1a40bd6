"""The checker: applies the rulebook to a bundle and derives every published number again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from edgebench.bundle import read_bundle
from edgebench.checker.known import Lookup, known_workload
from edgebench.checker.subject import KnownWorkload, Subject
from edgebench.errors import SpecError
from edgebench.findings import BundleRefused, Finding, finding
from edgebench.progress import Progress, SilentProgress
from edgebench.rules import RULES, Rule

__all__ = ["CHECKS", "Check", "KnownWorkload", "check", "check_or_raise", "known_workload"]

PACKAGE = "edgebench"
READING = "bundle_reader.read_bundle"
"""Applies its rules while it reads, and refuses a bundle at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One function of the checker, with the rules that name it."""

    name: str
    rules: tuple[Rule, ...]

    @property
    def is_gate(self) -> bool:
        """Whether the other checks need it to hold first."""
        return any(rule.is_gate for rule in self.rules)

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Yield the findings of rules that apply to the subject."""
        record = subject.bundle.record
        if any(rule.applies_to.includes(record) for rule in self.rules):
            for found in find_function(self.name)(subject):
                if RULES[found.rule_id].applies_to.includes(record):
                    yield found


def find_function(name: str) -> Callable[[Subject], Iterator[Finding]]:
    """Return the function that a rule names, `module.function` below `edgebench.`."""
    module, _, function = name.rpartition(".")
    found: Callable[[Subject], Iterator[Finding]] = getattr(
        import_module(f"{PACKAGE}.{module}"), function
    )
    return found


def _checks() -> tuple[Check, ...]:
    named: dict[str, list[Rule]] = {}
    for rule in RULES.values():
        for name in rule.checks:
            named.setdefault(name, []).append(rule)
    return tuple(Check(name=name, rules=tuple(rules)) for name, rules in named.items())


CHECKS = tuple(check for check in _checks() if check.name != READING)
"""Every check once, in the order of the rulebook."""


def check(
    path: Path,
    *,
    tensors: Path | None = None,
    lookup: Lookup = known_workload,
    progress: Progress | None = None,
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
    subject = Subject(
        bundle=bundle,
        workload=workload,
        tensors_folder=tensors,
        progress=progress or SilentProgress(),
    )
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
