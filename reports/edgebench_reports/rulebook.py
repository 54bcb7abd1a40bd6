"""The rulebook on a page: every rule with an anchor, and findings that point to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

from edgebench.rules import FAMILIES, RULES, facts
from edgebench_reports.render import TEMPLATES, printable

RULE_ID = re.compile(r"\[?([A-Z]-\d\d)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRule:
    """One rule as the page shows it."""

    id: str
    anchor: str
    title: str
    text: str
    facts: tuple[tuple[str, str], ...]


def anchor(rule_id: str) -> str:
    """Name the place of a rule on the page."""
    return f"rule-{rule_id}"


def shown_families() -> list[tuple[str, list[ShownRule]]]:
    """Return every family's title with its rules, all of it from the rulebook."""
    return [
        (
            title,
            [
                ShownRule(
                    id=rule.id,
                    anchor=anchor(rule.id),
                    title=rule.title,
                    text=rule.text,
                    facts=tuple(facts(rule)),
                )
                for rule in rules
            ],
        )
        for title, rules in FAMILIES.values()
    ]


def linked(text: str) -> Markup:
    """Escape a finding or a reason; the rule that it opens with points to the rule's place."""
    shown = printable(text)
    found = RULE_ID.match(shown)
    if found is None or found[1] not in RULES:
        return escape(shown)
    start, end = found.span(1)
    link = Markup('<a href="#{}">{}</a>').format(anchor(found[1]), found[1])
    return escape(shown[:start]) + link + escape(shown[end:])


TEMPLATES.filters["linked"] = linked
