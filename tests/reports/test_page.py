"""The page as text: nothing of a stranger's becomes an element, an attribute or a script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import pytest

from edgebench.record import Row
from edgebench.rules import RULES
from edgebench_reports.entries import Submission
from edgebench_reports.leaderboard import leaderboard_html, leaderboard_json
from edgebench_reports.render import printable, script_json, with_code
from edgebench_reports.submissions import Refused


class Page(HTMLParser):
    """The elements, attributes, texts and scripts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open.append(tag)
        if tag == "script":
            self.scripts.append(({name: value or "" for name, value in attrs}, ""))

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self._open and self._open[-1] != "style":
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def values(self, name: str) -> list[str]:
        """The values of one attribute, in order."""
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def calm(factory: ModuleType) -> Page:
    """A page without attacks, but of the same shape."""
    data = factory.hostile(factory.record_data("assistant", "offline"), text="plain words")
    quiet = factory.submission(data, system={"plain": {"words": ["a"]}, "cpu": "b"})
    refused = [Refused(path="closed/x", findings=("S-04",))]
    return Page(leaderboard_html([*factory.gallery(), quiet], refused))


@pytest.fixture(scope="module")
def attacked(factory: ModuleType) -> Page:
    """The page with an attack in every free text."""
    refused = [Refused(path=factory.ATTACK, findings=(factory.ATTACK,))]
    return Page(leaderboard_html([*factory.gallery(), factory.attack()], refused))


def test_attacks_bring_no_element_and_no_attribute(calm: Page, attacked: Page) -> None:
    assert attacked.tags == calm.tags
    names = {(tag, name) for tag, name, _ in attacked.attributes}
    assert names == {(tag, name) for tag, name, _ in calm.attributes}
    assert not any(name.startswith("on") for _, name, _ in attacked.attributes)
    assert len(attacked.scripts) == len(calm.scripts)
    assert "window.pwned = 1</script>" in attacked.text


def test_executable_code_is_the_same_whoever_submits(calm: Page, attacked: Page) -> None:
    inert = ("application/json", "text/plain")
    code = [text for attributes, text in attacked.scripts if attributes.get("type") not in inert]
    assert code == [
        text for attributes, text in calm.scripts if attributes.get("type") not in inert
    ]
    assert len(code) == 1
    assert "pwned" not in code[0]


def test_the_policy_names_the_one_script(calm: Page) -> None:
    code = calm.scripts[-1][1]
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policies = [value for value in calm.values("content") if "default-src" in value]
    assert len(policies) == 1
    assert f"script-src 'sha256-{digest}' 'unsafe-eval' blob:" in policies[0]
    assert policies[0].startswith("default-src 'none'")


def test_the_page_refers_to_nothing_outside(attacked: Page) -> None:
    links = [
        (tag, value)
        for tag, name, value in attacked.attributes
        if name in ("href", "src", "action", "srcset", "poster", "data")
    ]
    beyond = {pair for pair in links if not pair[1].startswith(("#", "data:image/"))}
    assert beyond == {
        ("a", "leaderboard.json"),
        ("a", "https://datatables.net/"),
        ("a", "https://vega.github.io/vega-lite/"),
    }


def test_every_link_within_the_page_arrives(calm: Page) -> None:
    ids = calm.values("id")
    assert len(set(ids)) == len(ids)
    wanted = {value[1:] for value in calm.values("href") if value.startswith("#")}
    assert wanted <= set(ids)


def test_direction_and_control_characters_are_made_visible(attacked: Page) -> None:
    assert "\u202e" not in attacked.text
    assert "\u2028" not in attacked.text
    assert printable("a\u202eb\x00c\nd") == "a\ufffdb\ufffdc\nd"


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "\u2028", "&lt;", "]]>", "\ud7ff"])
def test_json_cannot_leave_its_element(text: str) -> None:
    shown = script_json([text])
    assert not re.search(r"[<>&\u2028\u2029]", shown)
    assert json.loads(shown) == [text]


def test_chart_data_survives_the_parser(factory: ModuleType, attacked: Page) -> None:
    specs = next(
        text for attributes, text in attacked.scripts if attributes.get("id") == "chart-specs"
    )
    values = [row for spec in json.loads(specs) for row in factory.chart_rows(spec)]
    assert factory.ATTACK in {value.get("executed") for value in values}


def test_each_run_can_be_repeated_from_the_page(factory: ModuleType) -> None:
    data = factory.record_data()
    page = Page(leaderboard_html([factory.submission(data)]))
    assert data["provenance"]["command"] in page.text
    assert data["host"]["executed_on"] in page.text
    assert "NON-COMPLIANT-DURATION" in page.text
    assert "21.4 GB/s" in page.text
    assert "no number here is an MLPerf result" in page.text.replace("\n", " ")


def test_disclosures_stand_where_the_workload_is_shown(factory: ModuleType) -> None:
    wide = factory.submission(factory.record_data("assistant@300m"))
    assert factory.DISCLOSURE in Page(leaderboard_html([wide])).text
    assert "What is artificial" not in leaderboard_html([factory.submission(factory.record_data())])


def test_a_page_of_nothing_but_refusals_still_says_why() -> None:
    page = Page(leaderboard_html([], [Refused(path="closed/x", findings=("[S-03] expected",))]))
    assert "[S-03] expected" in page.text
    assert "No INT4 entry is ranked" in page.text


def test_gaps_leave_no_trace_of_none(factory: ModuleType) -> None:
    bare = factory.submission(factory.bare(factory.record_data()), system={})
    page = Page(leaderboard_html([bare]))
    text = page.text
    for rule in RULES.values():  # whose own words may say null
        text = text.replace(rule.text, "")
    assert not re.search(r"\b(None|nan|inf|undefined|null)\b", text)
    orders = page.values("data-order")
    assert "None" not in orders


def test_the_same_submissions_give_the_same_page(factory: ModuleType) -> None:
    def once() -> str:
        return leaderboard_html(factory.gallery()[:2])

    assert once() == once()


def test_the_data_beside_the_page_are_rows(factory: ModuleType) -> None:
    submissions: list[Submission] = [*factory.gallery(), factory.attack()]
    data: list[dict[str, Any]] = json.loads(leaderboard_json(submissions))
    assert len(data) == 2 * len(submissions)
    for row in data:
        Row.model_validate_json(json.dumps(row))


def test_the_card_of_an_open_model_says_what_bars_it_from_closed(factory: ModuleType) -> None:
    reasons = ["W-07: prune:wanda=2:4 is no post-training quantization", factory.ATTACK]
    data = factory.edited(
        factory.record_data(track="open", not_closed=reasons), "int4", accuracy_passed=None
    )
    html = leaderboard_html([factory.submission(data)])
    page = Page(html)
    assert page.text.count(reasons[0]) == 2  # on the card, and with the run's details
    assert "Not closed: 2 reasons" in page.text
    assert (
        "Not closed" not in Page(leaderboard_html([factory.submission(factory.record_data())])).text
    )
    assert not any("pwned" in text for _, text in page.scripts)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `ps a`, then `a<b`", "run <code>ps a</code>, then <code>a&lt;b</code>"),
        ("`a`", "<code>a</code>"),
        ("plain <b>", "plain &lt;b&gt;"),
        ("a ` that <i> is alone", "a ` that &lt;i&gt; is alone"),
    ],
)
def test_what_is_between_backticks_is_code(text: str, shown: str) -> None:
    assert with_code(text) == shown
