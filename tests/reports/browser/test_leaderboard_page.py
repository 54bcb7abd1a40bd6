"""The leaderboard in a real browser: it works from a file, alone, for everybody."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from edgebench_reports.leaderboard import leaderboard_html
from edgebench_reports.submissions import Refused

if TYPE_CHECKING:
    from conftest import Tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BOARD = "#table-single-stream"
ROWS = f"[...document.querySelectorAll('{BOARD} tbody tr')]"


@pytest.fixture(scope="session")
def page(factory: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of several systems, with gaps and with attacks in every free text."""
    attack = factory.attack()
    refused = [Refused(path=factory.ATTACK, findings=(factory.ATTACK,))]
    path = tmp_path_factory.mktemp("page") / "index.html"
    html = leaderboard_html([*factory.gallery(), attack], refused)
    path.write_text(html, encoding="utf-8")
    return path


def column(tab: Tab, heading: str) -> list[str]:
    """The shown texts of one column, in order."""
    shown: list[str] = tab.run(
        f"""(() => {{
          const heads = [...document.querySelectorAll('{BOARD} thead tr:first-child th')];
          const at = heads.findIndex((h) => h.dataset.heading === {json.dumps(heading)});
          return {ROWS}.map((row) => row.cells[at].firstChild.textContent.trim());
        }})()"""
    )
    return shown


def test_it_opens_alone(tab: Tab, page: Path) -> None:
    tab.open(page)
    asked = [url for url in tab.requests() if not url.startswith(("blob:", "data:"))]
    assert asked == [page.as_uri()]
    assert tab.complaints() == []


def test_attacks_stay_text(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert tab.run("typeof window.pwned") == "undefined"
    assert tab.run("document.querySelectorAll('[onerror], [onload], img[src=x]').length") == 0
    assert "window.pwned" in tab.run("document.body.textContent")
    # The tooltip builds HTML of its own.
    tab.hover(".plot path[aria-roledescription='point'][aria-label*='pwned']")
    tooltip = "document.getElementById('vg-tooltip-element')"
    tab.until(f"{tooltip} !== null && {tooltip}.textContent.includes('window.pwned')")
    assert tab.run(f"{tooltip}.querySelectorAll('script, img, svg').length") == 0
    assert tab.run("typeof window.pwned") == "undefined"
    assert tab.complaints() == []


def test_the_policy_stops_an_injected_script(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.run(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.pwned = 9'}))"
    )
    assert tab.run("typeof window.pwned") == "undefined"
    failed = tab.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'stopped')")
    assert failed == "stopped"
    assert any("Content Security Policy" in text for text in tab.complaints())


def test_sorting_puts_the_unmeasured_last_both_ways(tab: Tab, page: Path) -> None:
    tab.open(page)
    head = f"{BOARD} thead tr:first-child th[data-heading='p90 ms']"
    for sign in (1, -1):
        tab.click(head)
        expected = "ascending" if sign == 1 else "descending"
        tab.until(f'document.querySelector("{head}").ariaSort === "{expected}"')
        shown = column(tab, "p90 ms")
        measured = [sign * float(text) for text in shown if text != "–"]
        assert measured == sorted(measured)
        assert len(measured) > 8
        assert shown[len(measured) :] == ["–"] * (len(shown) - len(measured))
        assert "–" in shown


def test_sorting_by_keyboard(tab: Tab, page: Path) -> None:
    tab.open(page)
    head = f"{BOARD} thead tr:first-child th[data-heading='system']"
    tab.run(
        f'(document.querySelector("{head} [tabindex]") ?? document.querySelector("{head}")).focus()'
    )
    tab.press("Enter", 13)
    head_is = f'document.querySelector("{head}").ariaSort'
    tab.until(f'{head_is} === "ascending"')
    shown = column(tab, "system")
    assert shown == sorted(shown)
    assert shown[0] != shown[-1]


def test_global_search_and_filters_narrow_the_rows(tab: Tab, page: Path) -> None:
    tab.open(page)
    total = tab.run(f"{ROWS}.length")
    tab.type("#single-stream .tools input[type=search]", "Jetson")
    assert 0 < tab.run(f"{ROWS}.length") < total
    assert all("Jetson" in text for text in column(tab, "system"))
    tab.type("#single-stream .tools input[type=search]", "")
    tab.run(
        "document.querySelector('#single-stream .tools input').dispatchEvent(new Event('input'))"
    )
    assert tab.run(f"{ROWS}.length") == total

    tab.type(f"{BOARD} input[aria-label='Filter p90 ms']", "<100")
    assert all(float(text) < 100 for text in column(tab, "p90 ms"))
    tab.run(
        f"""(() => {{
          const choice = document.querySelector("{BOARD} select[aria-label='Filter kernel']");
          choice.value = 'int4';
          choice.dispatchEvent(new Event('change'));
        }})()"""
    )
    shown = column(tab, "kernel")
    assert set(shown) == {"int4"}
    status = tab.run("document.querySelector('#single-stream .count').textContent")
    assert status == f"{len(shown)} of {total} entries"


def test_columns_can_be_chosen(tab: Tab, page: Path) -> None:
    tab.open(page)
    head = f"document.querySelector(\"{BOARD} th[data-heading='p50 ms']\")"
    assert tab.run(f"{head} === null")
    tab.run(
        "[...document.querySelectorAll('#single-stream .menu label')]"
        ".find((label) => label.textContent.trim() === 'p50 ms').click()"
    )
    assert tab.run(f"{head} !== null")


def test_csv_holds_raw_numbers_and_no_formulas(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.run(
        "URL.createObjectURL = (blob) => { window.exported = blob; return 'blob:none'; }; "
        "HTMLAnchorElement.prototype.click = function () { window.saved = this.download; }"
    )
    tab.click("#single-stream .tools button")
    text = tab.run("window.exported.text()")
    lines = text.lstrip("\ufeff").splitlines()
    assert tab.run("window.saved") == "edgebench-single-stream.csv"
    assert lines[0].startswith("rank,workload,system,device,track,organisation,kernel")
    assert "p50 ms" in lines[0]
    assert len(lines) == 1 + tab.run(f"{ROWS}.length")
    assert tab.run("csvCell('=1+1')") == "'=1+1"
    assert tab.run("csvCell('-1.5')") == "-1.5"
    assert tab.run("csvCell('a\"b,c')") == '"a""b,c"'


def test_charts_are_drawn(tab: Tab, page: Path) -> None:
    tab.open(page)
    plots = tab.run("document.querySelectorAll('.plot').length")
    assert plots >= 5
    assert tab.run("document.querySelectorAll('.plot svg').length") >= plots
    marks = (
        "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelectorAll(%s).length)"
    )
    assert tab.run(marks % "'path[aria-roledescription=\"point\"]'")
    roofs = "document.querySelectorAll('.panels-roofline .mark-line path').length"
    assert tab.run(roofs) >= 4
    assert tab.run("document.querySelectorAll('.plot img').length") == 0


def test_dark_mode_follows_while_open(tab: Tab, page: Path) -> None:
    tab.colours("light")
    tab.open(page)
    ground = "getComputedStyle(document.body).backgroundColor"
    axis = "document.querySelector('.plot .role-axis-label text').getAttribute('fill')"
    light = tab.run(ground), tab.run(axis)
    tab.colours("dark")
    tab.until(f"{axis} !== {json.dumps(light[1])}")
    dark = tab.run(ground), tab.run(axis)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert tab.complaints() == []


def test_without_javascript_the_table_and_pictures_show(tab: Tab, page: Path) -> None:
    tab.open(page, with_script=False)
    assert tab.run(f"{ROWS}.length") > 8
    assert tab.run(f"{ROWS}.every((row) => row.checkVisibility())")
    assert tab.run("document.querySelectorAll('.tools, .filters').length") == 0
    pictures = "[...document.querySelectorAll('.plot img')]"
    assert tab.run(f"{pictures}.length") >= 5
    tab.until(f"{pictures}.every((image) => image.complete && image.naturalWidth > 100)")
    assert tab.complaints() == []


def test_a_run_link_opens_its_details(tab: Tab, page: Path) -> None:
    tab.open(page)
    target = tab.run(f"document.querySelector('{BOARD} td a').hash")
    tab.run(f"document.querySelector('{BOARD} td a').click()")
    tab.until(f"document.querySelector('{target}').open")
    assert "bench run" in tab.run(f"document.querySelector('{target} .repeat').textContent")


def test_a_phone_scrolls_tables_not_the_page(tab: Tab, page: Path) -> None:
    tab.resize(390, 800)
    tab.open(page)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.run("document.querySelector('.scroll').scrollWidth") > 390


def test_a_long_table_has_pages_and_stays_quick(
    factory: ModuleType, tab: Tab, tmp_path: Path
) -> None:
    runs = [
        factory.submission(factory.record_data(speed=1 + number / 100), run_id=f"run-{number}")
        for number in range(300)
    ]
    path = tmp_path / "index.html"
    path.write_text(leaderboard_html(runs), encoding="utf-8")
    tab.open(path)
    assert tab.run(f"{ROWS}.length") == 100
    assert tab.run("document.querySelector('#single-stream .count').textContent") == "600 entries"
    tab.type("#single-stream .tools input[type=search]", "run-299")
    assert tab.run(f"{ROWS}.length") == 2
    assert tab.complaints() == []
