"""The site in a real browser: pages open alone, follow the system's colours, hold hostile words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from edgebench.progress import SilentProgress
from edgebench_reports.entries import Submission, rank_entries
from edgebench_reports.evidence import Evidence, Latencies, Timeline
from edgebench_reports.leaderboard import Board, board_html
from edgebench_reports.site import write_pages

if TYPE_CHECKING:
    from conftest import Tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BOARD = "#table-single-stream"


def evidence(text: str) -> Evidence:
    return Evidence(
        latencies=(Latencies(kernel="int4", quantiles_ms=[float(n) for n in range(101)], count=9),),
        power=(Timeline(meter=text, domain=text, t_s=[0.0, 1.0], power_W=[5.0, 6.0]),),
    )


@pytest.fixture(scope="module")
def site(factory: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    attack = replace(factory.attack(), evidence=evidence(factory.ATTACK))
    shown = [*(replace(s, evidence=evidence("rapl")) for s in factory.gallery()), attack]
    write_pages(rank_entries(shown), out, SilentProgress())
    page = board_html(Board(submissions=shown, has_pages=True))
    (out / "index.html").write_text(page, encoding="utf-8")
    (out / "leaderboard.json").write_text("[]")
    (out / "leaderboard.csv").write_text("")
    return out


def opened(tab: Tab, page: Path) -> None:
    """Open a page without a script of its own."""
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    tab.call("Page.navigate", url=page.as_uri())
    tab.until(
        f"document.readyState === 'complete' && location.href === {json.dumps(page.as_uri())}"
    )


def test_every_page_opens_alone_and_runs_nothing(tab: Tab, site: Path) -> None:
    pages = sorted(site.glob("*/*.html"))
    assert len(pages) > 15
    for page in pages:
        opened(tab, page)
        assert tab.run("typeof window.pwned") == "undefined"
        assert tab.run("document.querySelectorAll('script, img, [onerror], [onload]').length") == 0
        assert tab.run("document.querySelectorAll('link[rel=icon]').length") == 1
        assert tab.run("document.title.length") > 5
    asked = {url for url in tab.requests() if not url.startswith("data:")}
    assert asked == {page.as_uri() for page in pages}
    assert tab.complaints() == []


def test_plots_are_drawn_and_follow_dark_mode(tab: Tab, site: Path, factory: ModuleType) -> None:
    anchor = factory.gallery()[0].anchor
    tab.colours("light")
    opened(tab, site / "run" / f"{anchor}.html")
    assert tab.run("document.querySelectorAll('svg polyline').length") >= 2
    assert tab.run("document.querySelector('polyline').getBBox().width") > 100
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.run(ground)
    tab.colours("dark")
    tab.until(f"{ground} !== {json.dumps(light)}")


def test_a_permalink_leads_from_the_board_and_back(tab: Tab, site: Path) -> None:
    tab.open(site / "index.html")
    link = tab.run("document.querySelector('.run a[href^=\"run/\"]').href")
    tab.run(f"location.href = {json.dumps(link)}")
    tab.until(f"location.href === {json.dumps(link)} && document.readyState === 'complete'")
    assert tab.run("document.querySelector('a').getAttribute('href')") == "../index.html"


def test_downloads_are_named_and_there(tab: Tab, site: Path) -> None:
    tab.open(site / "index.html")
    links = tab.run("[...document.querySelectorAll('nav a')].map((a) => a.getAttribute('href'))")
    for name in ("leaderboard.json", "leaderboard.csv"):
        assert name in links
        assert (site / name).is_file()


def test_ten_thousand_submissions_sort_filter_and_stay_text(
    factory: ModuleType, tab: Tab, tmp_path: Path
) -> None:
    """The time of the first sort is printed (pytest -s), and no bound of it asserted."""
    one, attack = factory.submission(factory.record_data()), factory.attack()
    runs = [
        Submission(
            record=one.record.model_copy(
                update={
                    "run_id": f"run-{n}",
                    "results": [
                        r.model_copy(update={"latency_p90_ms": 10 + n * 0.013})
                        for r in one.record.results
                    ],
                }
            ),
            system=one.system,
        )
        for n in range(10_000)
    ]
    hostile = factory.submission(factory.hostile(factory.record_data()), run_id="hostile")
    path = tmp_path / "index.html"
    html = board_html(Board(submissions=[*runs, attack, hostile], has_pages=True))
    path.write_text(html, encoding="utf-8")
    tab.open(path)
    shown = "[...document.querySelectorAll('#table-single-stream tbody tr')]"
    assert tab.run(f"{shown}.length") == 100
    count = "document.querySelector('#single-stream .count').textContent"
    assert tab.run(count) == "20002 entries"
    head = f"{BOARD} thead tr:first-child th[data-heading='p90 ms']"
    took = tab.run(
        f"""new Promise((done) => {{
          const start = performance.now(), head = document.querySelector("{head}");
          const look = () => head.ariaSort === "ascending"
            ? requestAnimationFrame(() => done(performance.now() - start)) : setTimeout(look, 5);
          head.click();
          look();
        }})"""
    )
    print(f"first sort of 20,002 entries: {took:.0f} ms")
    tab.until(f'document.querySelector("{head}").ariaSort === "ascending"')
    tab.type("#single-stream .tools input[type=search]", "hostile")
    tab.until(f"{shown}.length === 2")
    assert tab.run("typeof window.pwned") == "undefined"
    assert tab.run(f"document.querySelectorAll('{BOARD} img, {BOARD} script').length") == 0
    assert tab.complaints() == []


def test_tracks_are_tabs_and_json_holds_what_is_shown(
    factory: ModuleType, tab: Tab, tmp_path: Path
) -> None:
    runs = [
        factory.submission(factory.record_data(track=track), run_id=f"run-{track}")
        for track in ("closed", "open")
    ]
    path = tmp_path / "index.html"
    path.write_text(board_html(Board(submissions=runs)), encoding="utf-8")
    tab.open(path)
    count = "document.querySelector('#single-stream .count').textContent"
    assert tab.run(count) == "4 entries"
    buttons = "[...document.querySelectorAll('%s button')]"
    chosen = f"{buttons}.find((button) => button.textContent === '%s').click()"
    tab.run(chosen % (".tabs", "open"))
    assert tab.run(count) == "2 of 4 entries"
    tab.run(
        "URL.createObjectURL = (blob) => { window.exported = blob; return 'blob:none'; }; "
        "HTMLAnchorElement.prototype.click = function () { window.saved = this.download; }"
    )
    tab.run(chosen % (".tools", "JSON"))
    rows = json.loads(tab.run("window.exported.text()"))
    assert tab.run("window.saved") == "edgebench-single-stream.json"
    assert {row["run"] for row in rows} == {"run-open"}
    assert sorted(row["p90 ms"] for row in rows) == [21.3, 52]
    assert [row["rank"] for row in rows] == [1, None]
    tab.run("document.querySelector('.tabs button').click()")
    assert tab.run(count) == "4 entries"
    assert tab.complaints() == []
