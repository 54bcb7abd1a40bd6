"""The rules on the page come from the rulebook, and findings point to them."""

from __future__ import annotations

import pytest

from edgebench.rules import FAMILIES, RULES
from edgebench_reports.leaderboard import leaderboard_html
from edgebench_reports.rulebook import linked, shown_families


def test_the_page_holds_every_rule() -> None:
    page = leaderboard_html([])
    for rule in RULES.values():
        assert f'id="rule-{rule.id}"' in page
    shown = [rule.id for _, rules in shown_families() for rule in rules]
    assert shown == list(RULES)
    assert [title for title, _ in shown_families()] == [title for title, _ in FAMILIES.values()]


@pytest.mark.parametrize("text", ["W-04: too far", "[W-04] expected a code, got another"])
def test_a_finding_points_to_its_rule(text: str) -> None:
    assert '<a href="#rule-W-04">W-04</a>' in linked(text)
    assert linked(text).striptags() == text


@pytest.mark.parametrize(
    "text", ["Z-99: unknown", "<b>W-04</b>", "W-04<script>alert(1)</script>", "W-041 is no rule"]
)
def test_a_strangers_text_stays_text(text: str) -> None:
    html = linked(text)
    assert "<b>" not in html
    assert "<script" not in html
    assert ("<a " in html) == text.startswith("W-04<")
