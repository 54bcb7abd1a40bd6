"""The night's reports: page, Markdown and JUnit say the same, and nothing hostile executes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from edgebench.nightly.creep import Creep
from edgebench.nightly.history import HistoryRow
from edgebench.nightly.night import Night, NightCell
from edgebench.paired import log_ratio, paired_effect
from edgebench_reports.nightly_report import night_html, night_markdown, write_night

STEPS = [0.001 * n for n in range(-4, 5)]
STATES = ("regression", "no change", "suspicious", "insufficient data")


def cell(name: str, state: str, shift: float = 0.0) -> NightCell:
    return NightCell(
        name=name,
        effect=None if state == "insufficient data" else paired_effect([shift + s for s in STEPS]),
        limit=log_ratio(2),
        limit_reason="test",
        state=state,  # type: ignore[arg-type]
    )


@pytest.fixture
def night() -> Night:
    creep = Creep(
        cell="c0", change=0.05, first_night="n1", last_night="n9", first_head="h1", last_head="h9"
    )
    return Night(
        night_utc="2026-01-10T00:00:00Z",
        suite="main",
        system="box",
        baseline="v1",
        head="v2",
        pairs=9,
        duration_s=61.0,
        cells=tuple(cell(f"c{n}", state, 0.1 * (n == 0)) for n, state in enumerate(STATES)),
        controls=(cell("control", "no change"),),
        creeps=(creep,),
        notes=("no night between a and b",),
    )


def history(count: int = 5) -> list[HistoryRow]:
    return [
        HistoryRow(
            kind="night", night_utc=f"2026-01-0{n + 1}T00:00:00Z", suite="main", system="box",
            cell="c0", baseline="v1", head="x", change_percent=float(n), interval_percent=None,
            pairs=8, limit_percent=2.0, state="no change",
        )
        for n in range(count)
    ]  # fmt: skip


def test_the_three_reports_agree(night: Night, tmp_path: Path) -> None:
    page = write_night(night, history(), tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "1 regression, 1 no change, 1 suspicious, 1 insufficient data" in text
    assert "+10.5 %" in text
    assert "slow creep: c0 +5.1 % since n1 (h1) until n9 (h9)" in text
    assert "no night between a and b" in text
    html = page.read_text()
    assert "1 regression" in html
    assert "<script" not in html
    assert html.count("<polyline") == 1
    suite = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    failure = suite.find("testcase[@name='c0']/failure")
    assert failure is not None
    assert "+10.5 %" in (failure.text or "")


def test_a_void_night_says_so_first(night: Night) -> None:
    void = replace(night, controls=(cell("control", "void", 0.1),))
    assert void.is_void
    assert night_markdown(void).splitlines()[0].startswith("## Nightly main: VOID")


def test_hostile_labels_stay_text(night: Night, factory: ModuleType) -> None:
    hostile = replace(night, baseline=factory.ATTACK, notes=(factory.ATTACK,))
    html = night_html(hostile, [])
    assert "<script" not in html
    assert "<img" not in html
    assert "\n" not in night_markdown(hostile).splitlines()[2]
