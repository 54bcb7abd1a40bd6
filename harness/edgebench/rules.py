"""The one rulebook: what a result must satisfy; the checker, the docs and the pages read it here.

The numbers stand in `profiles.py`, each with its source, and the rules in `rule_table.py`;
`docs/rules.md` is written by `python -m edgebench.rules > docs/rules.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.errors import unknown_name
from edgebench.profiles import (
    PROFILES,
    Counts,
    ProfileRules,
    accuracy_targets,
    is_widened,
    size_class,
)
from edgebench.rule_table import RULE_TABLE, Rule, Severity

__all__ = [
    "FAMILIES",
    "PROFILES",
    "RULES",
    "Counts",
    "ProfileRules",
    "Rule",
    "Severity",
    "accuracy_targets",
    "find_rule",
    "is_widened",
    "rules_markdown",
    "size_class",
]

REGENERATE = "python -m edgebench.rules > docs/rules.md"

FAMILIES: Mapping[str, str] = {
    "S": "Structure: the bundle is what it says it is",
    "N": "Numbers: every published number follows from the raw rows",
    "D": "Duration and schedule: enough was measured, in the agreed order",
    "Q": "Quality: the answers are right, and are the same answers",
    "W": "Weights: where they come from and what was done to them",
    "R": "Roofline: no kernel beats the machine",
    "P": "Power: energy is measured or absent",
}

RULES: Mapping[str, Rule] = {rule.id: rule for rule in RULE_TABLE}


def find_rule(rule_id: str) -> Rule:
    """Return one rule by its id; an unknown id raises SpecError with the nearest."""
    if rule_id.upper() not in RULES:
        raise unknown_name("rules", "rule", rule_id, RULES)
    return RULES[rule_id.upper()]


def _profile_rows() -> list[str]:
    rows = [
        "| profile | size | scenario | queries or rounds | samples a round | seconds per kernel "
        "| issued | scored on | stamps |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for profile in PROFILES.values():
        for (size, scenario), counts in profile.counts_by_case.items():
            each = counts.samples_per_round or ("all" if scenario == "offline" else 1)
            rows.append(
                f"| {profile.name} | {size} | {scenario} | {counts.min_queries} | {each} "
                f"| {counts.min_duration_s:g} "
                f"| {'whole passes' if counts.equal_issue else 'equally, up to one'} "
                f"| {counts.scored_on} "
                f"| {', '.join(profile.stamps) or '-'} |"
            )
    return rows


def rules_markdown() -> str:
    """Write the rulebook as the Markdown page `docs/rules.md`."""
    lines = ["# The rulebook", "", f"<!-- written by: {REGENERATE} -->", ""]
    lines += ["`bench check BUNDLE` applies these rules; `bench explain RULE` prints one. An error"]
    lines += ["refuses the bundle with exit code 5; a warning is shown beside the result.", ""]
    lines += ["## Profiles", "", *_profile_rows()]
    for letter, family in FAMILIES.items():
        lines += ["", f"## {family}"]
        for rule in (rule for rule in RULE_TABLE if rule.id[0] == letter):
            lines += ["", f"### {rule.id} {rule.title}", "", rule.text, ""]
            lines += [f"- Why: {rule.why}", f"- Source: {rule.source}"]
            lines += [f"- When broken ({rule.severity}): {rule.what_to_do}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(rules_markdown(), end="")
