"""Every rule of the rulebook is applied by a check and broken by a test."""

from __future__ import annotations

from edgebench.checker import CHECKS, READING
from edgebench.rules import RULES
from tests.harness.checker import test_hostile, test_rules_answered, test_rules_measured


def test_every_rule_is_applied() -> None:
    assert {rule for item in CHECKS for rule in item.rules} | set(READING) == set(RULES)


def test_every_rule_is_broken() -> None:
    from tests.harness.checker import test_retraced  # needs torch, or skips

    cases = (*test_rules_measured.CASES, *test_rules_answered.CASES, *test_hostile.HOSTILE)
    broken = {case[0] for case in cases} | {case[0] for case in test_retraced.CASES}
    assert broken == set(RULES)
