"""Every rule of the rulebook is applied by a check and broken by a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgebench.checker import CHECKS, READING, find_function
from edgebench.rules import RULES
from tests.harness.checker import test_hostile, test_rules_answered, test_rules_measured
from tests.harness.checker.conftest import Maker

NAMED = {name for rule in RULES.values() for name in rule.checks}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_named_check_exists_and_says_its_rules(name: str) -> None:
    text = find_function(name).__doc__ or ""
    if name != READING:
        rules = {rule.id for check in CHECKS if check.name == name for rule in check.rules}
        assert rules <= set(text.replace(",", " ").replace(":", " ").split()), text


def test_every_rule_is_applied() -> None:
    assert all(rule.checks for rule in RULES.values())
    assert {check.name for check in CHECKS} == NAMED - {READING}


def test_every_rule_is_broken() -> None:
    from tests.harness.checker import (
        test_distilled,
        test_open_track,
        test_retraced,
    )  # need torch, or skip
    from tests.harness.images import test_changed, test_known, test_nas

    cases = (*test_rules_measured.CASES, *test_rules_answered.CASES, *test_hostile.HOSTILE)
    own = (
        test_retraced.CASES,
        test_open_track.CASES,
        test_open_track.TRAINED_CASES,
        test_distilled.CASES,
        test_nas.CASES,
        test_changed.CASES,
        test_known.CASES,
    )
    broken = {case[0] for some in (cases, *own) for case in some}
    assert broken == set(RULES)


def test_a_rule_is_silent_where_it_does_not_apply(maker: Maker) -> None:
    maker.workload = replace(maker.workload, closed_only=False)
    test_rules_answered.wrong_answers(maker)
    test_rules_answered.retrained(maker)
    assert {found.rule_id for found in maker.findings()} >= {"Q-02", "W-04"}
    maker.record["run_id"] = "run-2"
    test_rules_answered.open_track(maker)
    assert maker.findings() == []
