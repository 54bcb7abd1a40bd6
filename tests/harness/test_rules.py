"""The rulebook: complete, sourced, and the same in the table, the docs and the profiles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgebench import profiles, rules, schemas
from edgebench.errors import SpecError
from edgebench.rules import FAMILIES, PROFILES, RULES, find_rule, rules_markdown, size_class
from edgebench.stats import early_stopping_floor, median_confidence_interval

SOURCE = Path(profiles.__file__)


def test_the_committed_page_is_the_rulebook(root: Path) -> None:
    page = (root / "docs" / "rules.md").read_text(encoding="utf-8")
    assert page == rules_markdown(), f"regenerate it: {rules.REGENERATE}"


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_committed_schema_is_the_model(root: Path, name: str) -> None:
    text = (root / "docs" / "schema" / f"{name}.schema.json").read_text(encoding="utf-8")
    assert text == schemas.schema_text(name), f"regenerate it: {schemas.REGENERATE}"


def test_no_schema_without_a_model(root: Path) -> None:
    found = {path.name.partition(".")[0] for path in (root / "docs" / "schema").iterdir()}
    assert found == set(schemas.SCHEMAS)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_says_everything(rule: rules.Rule) -> None:
    assert re.fullmatch(r"[A-Z]-\d\d", rule.id)
    assert rule.id[0] in FAMILIES
    for text in (rule.title, rule.text, rule.why, rule.source, rule.what_to_do):
        assert text.strip() == text
        assert text
    assert rule.text.endswith(".")
    assert rule.why.endswith(".")
    assert not rule.what_to_do.endswith(".")


def test_rule_ids_are_unique() -> None:
    assert len(RULES) == sum(len(rules) for _, rules in FAMILIES.values())


def test_a_rule_stands_in_its_family() -> None:
    for letter, (_, family) in FAMILIES.items():
        assert [rule.id for rule in family] == sorted(rule.id for rule in family)
        assert {rule.id[0] for rule in family} == {letter}


def test_every_number_carries_its_source() -> None:
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    constants = [line for line in lines if re.match(r"[A-Z][A-Z_0-9]+ = [\d(\"f]", line)]
    assert len(constants) > 20
    assert [line for line in constants if "  # " not in line] == []


def test_find_rule_takes_lower_case_and_suggests() -> None:
    assert find_rule("w-04") is RULES["W-04"]
    with pytest.raises(SpecError, match="did you mean 'W-04'"):
        find_rule("W_04")


def test_profiles_cover_every_case() -> None:
    cases = {
        (size, scenario)
        for size in ("embedded", "large")
        for scenario in ("single-stream", "offline")
    }
    assert list(PROFILES) == ["quick", "standard", "official"]
    assert all(set(profile.counts_by_case) == cases for profile in PROFILES.values())


def test_quick_has_the_counts_of_the_main_job() -> None:
    quick = PROFILES["quick"]
    small, large = "assistant", "assistant@300m"
    assert quick.counts(small, "single-stream").min_queries == 512
    assert quick.counts(small, "single-stream").scored_on == "scored-set"
    assert quick.counts(small, "offline").samples_per_round is None
    assert quick.counts(large, "single-stream").min_queries == 128
    assert quick.counts(large, "offline").samples_per_round == 64
    assert quick.counts(large, "offline").scored_on == "performance-outputs"
    assert quick.stamps == ("NON-COMPLIANT-DURATION",)


@pytest.mark.parametrize("name", ["standard", "official"])
@pytest.mark.parametrize("workload", ["assistant", "assistant@1b", "llm"])
@pytest.mark.parametrize("scenario", ["single-stream", "offline"])
def test_longer_profiles_score_everything(name: str, workload: str, scenario: str) -> None:
    counts = PROFILES[name].counts(workload, scenario)
    assert counts.scored_on == "scored-set"
    assert counts.nll_samples is None


def test_only_ten_minutes_go_unstamped() -> None:
    for profile in PROFILES.values():
        shortest = min(counts.min_duration_s for counts in profile.counts_by_case.values())
        assert bool(profile.stamps) == (shortest < 600)


def test_size_classes() -> None:
    assert [size_class(name) for name in ("assistant", "assistant@300m", "llm")] == [
        "embedded",
        "large",
        "large",
    ]


def test_the_statistical_numbers_follow_from_their_definitions() -> None:
    floor = early_stopping_floor(profiles.LATENCY_PERCENTILE, profiles.EARLY_STOPPING_CONFIDENCE)
    assert floor == profiles.MIN_QUERIES_FOR_P90 == 64
    assert median_confidence_interval(range(profiles.MIN_ROUNDS)) is not None
    assert median_confidence_interval(range(profiles.MIN_ROUNDS - 1)) is None


def test_only_the_closed_track_is_gated() -> None:
    assert rules.accuracy_targets("closed") == (0.99, 0.999)
    assert rules.accuracy_targets("open") is None
