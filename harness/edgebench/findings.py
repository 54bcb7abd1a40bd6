"""A finding: one broken rule, with what was expected, what came and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from edgebench.errors import RuleViolation
from edgebench.rules import RULES, Severity

SHOWN_CHARACTERS = 300


def printable(text: str) -> str:
    """Make a stranger's text safe for a terminal: one line, no control characters, not too long."""
    plain = "".join(letter if letter.isprintable() else "�" for letter in text)
    return plain if len(plain) <= SHOWN_CHARACTERS else plain[:SHOWN_CHARACTERS] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken rule of one bundle."""

    rule_id: str
    expected: str
    came: str
    what_to_do: str
    severity: Severity

    def __str__(self) -> str:
        return f"[{self.rule_id}] expected {self.expected}, got {self.came}; {self.what_to_do}"


def finding(rule_id: str, expected: str, came: object) -> Finding:
    """Make a finding of a rule in the rulebook, its severity and advice included."""
    rule = RULES[rule_id]
    return Finding(
        rule_id=rule_id,
        expected=printable(expected),
        came=printable(str(came)),
        what_to_do=rule.what_to_do,
        severity=rule.severity,
    )


class BundleRefused(RuleViolation):
    """A bundle that cannot be read safely, or breaks a rule; `finding` says which."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def refuse(rule_id: str, expected: str, came: object) -> BundleRefused:
    """Make the error that stops reading a bundle at its first structural fault."""
    return BundleRefused(finding(rule_id, expected, came))
