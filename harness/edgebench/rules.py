"""The door to the rulebook: what a result must satisfy; checker, docs and pages read it here.

The numbers stand in `profiles.py`, each with its source, and the rules in `rulebook/`;
`docs/rules.md` is written by `python -m edgebench.rules > docs/rules.md`.
"""

from __future__ import annotations

from edgebench.errors import unknown_name
from edgebench.profiles import (
    PROFILES,
    Counts,
    ProfileRules,
    accuracy_targets,
    is_widened,
    size_class,
)
from edgebench.rulebook import FAMILIES, RULES, AppliesTo, Rule, Severity

__all__ = [
    "FAMILIES",
    "PROFILES",
    "RULES",
    "AppliesTo",
    "Counts",
    "ProfileRules",
    "Rule",
    "Severity",
    "accuracy_targets",
    "facts",
    "find_rule",
    "is_widened",
    "profile_table",
    "rules_markdown",
    "size_class",
]

REGENERATE = "python -m edgebench.rules > docs/rules.md"

PROFILE_COLUMNS = (
    "profile",
    "size",
    "scenario",
    "queries or rounds",
    "samples a round",
    "seconds per kernel",
    "issued",
    "scored on",
    "stamps",
)


def find_rule(rule_id: str) -> Rule:
    """Return one rule by its id; an unknown id raises SpecError with the nearest."""
    if rule_id.upper() not in RULES:
        raise unknown_name("rules", "rule", rule_id, RULES)
    return RULES[rule_id.upper()]


def profile_table() -> list[tuple[str, ...]]:
    """What each profile demands, under PROFILE_COLUMNS."""
    rows = []
    for profile in PROFILES.values():
        for (size, scenario), counts in profile.counts_by_case.items():
            each = counts.samples_per_round or ("all" if scenario == "offline" else 1)
            issued = "whole passes" if counts.equal_issue else "equally, up to one"
            cells = (
                profile.name, size, scenario, counts.min_queries, each,
                f"{counts.min_duration_s:g}", issued, counts.scored_on,
                ", ".join(profile.stamps) or "-",
            )  # fmt: skip
            rows.append(tuple(map(str, cells)))
    return rows


def facts(rule: Rule) -> list[tuple[str, str]]:
    """What else there is to say of a rule, under the names that every page and command uses."""
    return [
        ("Why", rule.why),
        ("Source", rule.source),
        ("Applies to", f"{rule.applies_to}"),
        ("Checked by", ", ".join(rule.checks)),
        (f"When broken ({rule.severity})", f"{rule.what_to_do}."),
    ]


def rules_markdown() -> str:
    """Write the rulebook as the Markdown page `docs/rules.md`."""
    lines = ["# The rulebook", "", f"<!-- written by: {REGENERATE} -->", ""]
    lines += ["`bench check BUNDLE` applies these rules; `bench explain RULE` prints one. An error"]
    lines += ["refuses the bundle with exit code 5; a warning is shown beside the result.", ""]
    lines += ["## Profiles", "", "| " + " | ".join(PROFILE_COLUMNS) + " |"]
    lines += ["|" + "---|" * len(PROFILE_COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in profile_table()]
    for title, rules in FAMILIES.values():
        lines += ["", f"## {title}"]
        for rule in rules:
            lines += ["", f"### {rule.id} {rule.title}", "", rule.text, ""]
            lines += [f"- {name}: {text}" for name, text in facts(rule)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(rules_markdown(), end="")
