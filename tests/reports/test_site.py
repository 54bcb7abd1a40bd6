"""The site: a permanent page per submission, per device and workload, safe, small, and tidy."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgebench.foreign import ForeignResults, ForeignRow
from edgebench.progress import SilentProgress
from edgebench_reports.entries import Submission, rank_entries, verdict
from edgebench_reports.evidence import BundleFile, Evidence, Latencies, Step, Timeline
from edgebench_reports.leaderboard import (
    MAX_CHARTED,
    SHOWN_ROWS,
    Board,
    board_html,
    write_leaderboard,
)
from edgebench_reports.pareto import front, pareto
from edgebench_reports.run_page import page_name
from edgebench_reports.site import write_pages

SHA = "0123456789abcdef" * 4


def evidence(text: str = "rapl") -> Evidence:
    return Evidence(
        steps=(Step(transform=text, parameters=text, before_sha256=SHA, after_sha256=SHA),),
        latencies=tuple(
            Latencies(kernel=kernel, quantiles_ms=[1.0 + n for n in range(101)], count=101)
            for kernel in ("fp16", "int4")
        ),
        power=(Timeline(meter=text, domain=text, t_s=[0.0, 1.0], power_W=[5.0, 6.0]),),
        files=(BundleFile(name=text, size_bytes=10, sha256=SHA),),
    )


def with_evidence(submission: Submission, text: str = "rapl") -> Submission:
    from dataclasses import replace

    return replace(submission, evidence=evidence(text))


def many(factory: ModuleType, count: int) -> list[Submission]:
    """Many runs of one record: only the id differs, so that they are quick to make."""
    one = factory.submission(factory.record_data())
    return [
        Submission(record=one.record.model_copy(update={"run_id": f"run-{n}"}), system=one.system)
        for n in range(count)
    ]


@pytest.fixture
def site(factory: ModuleType, tmp_path: Path) -> Path:
    shown = [with_evidence(one) for one in factory.gallery()]
    shown.append(with_evidence(factory.attack(), factory.ATTACK))
    write_pages(rank_entries(shown), tmp_path, SilentProgress())
    return tmp_path


def test_every_submission_device_and_workload_has_a_page(site: Path, factory: ModuleType) -> None:
    for submission in [*factory.gallery(), factory.attack()]:
        text = (site / page_name(submission)).read_text(encoding="utf-8")
        assert submission.record.run_id in text
        assert "no number here is an MLPerf result" in text
        assert 'rel="icon"' in text
    assert {p.name for p in (site / "device").iterdir()} == {"cpu.html", "orin.html"}
    assert {p.name for p in (site / "workload").iterdir()} == {
        "assistant.html",
        "assistant@300m.html",
    }


def test_a_page_shows_plots_files_ledger_and_how_to_repeat(site: Path, factory: ModuleType) -> None:
    shown = factory.submission(factory.record_data("assistant@300m", "single-stream"))
    text = (site / page_name(shown)).read_text(encoding="utf-8")
    assert text.count("<svg") == 3  # distribution, power, roofline
    for said in ("bench run --track closed", "bench reproduce run-", SHA, "Ledger", "cpu.model"):
        assert said in text, said


def test_what_was_not_measured_is_said(factory: ModuleType, tmp_path: Path) -> None:
    bare = factory.submission(factory.bare(factory.record_data()), system={})
    write_pages(rank_entries([bare]), tmp_path, SilentProgress())
    text = (tmp_path / page_name(bare)).read_text(encoding="utf-8")
    assert "No meter answered; nothing is estimated." in text
    assert "No kernel has a place under a measured ceiling" in text
    assert "<svg" not in text


def test_hostile_words_stay_text_on_every_page(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text, page
        assert "<img" not in text, page
        assert "onerror='" not in re.sub(r"&[#\w]+;", "", text.partition("<body>")[0]), page
        assert "script-src" not in text  # default-src 'none' is all that scripts get
        assert "default-src &#39;none&#39;" in text


def test_links_between_pages_arrive(site: Path) -> None:
    (site / "index.html").write_text("")
    for page in site.glob("*/*.html"):
        for link in re.findall(r'<a href="([^"#:]+)"', page.read_text(encoding="utf-8")):
            assert (page.parent / link).is_file(), (page, link)


def test_pages_of_bundles_that_are_gone_go(site: Path, factory: ModuleType) -> None:
    (site / "run" / "notes.txt").write_text("kept")
    only = factory.gallery()[:1]
    write_pages(rank_entries(only), site, SilentProgress())
    assert sorted(p.name for p in (site / "run").iterdir()) == sorted(
        ["notes.txt", Path(page_name(only[0])).name]
    )


def test_a_long_table_is_packed_and_plain_rows_are_few(factory: ModuleType) -> None:
    runs = many(factory, 300)
    html = board_html(Board(submissions=runs, has_pages=True))
    assert html.count("<tr") < SHOWN_ROWS + 50
    packed = re.search(r'id="rows-single-stream">([^<]+)<', html)
    assert packed is not None
    rows = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    assert len(rows) == 600
    assert all(row[-1][4].startswith("run/run-") for row in rows)
    assert "run-299" in {row[-1][0] for row in rows}
    assert f"{min(MAX_CHARTED, 400)} of 600 entries" in html
    assert "files above hold them all" in html


def test_ten_thousand_submissions_fit_in_eight_megabytes(factory: ModuleType) -> None:
    runs = [
        Submission(
            record=one.record.model_copy(
                update={
                    "system": f"box-{n % 97}",
                    "results": [
                        r.model_copy(update={"latency_p90_ms": (r.latency_p90_ms or 1) + n * 0.013})
                        for r in one.record.results
                    ],
                }
            ),
            system=one.system,
        )
        for n, one in enumerate(many(factory, 10_000))
    ]
    html = board_html(Board(submissions=runs, has_pages=True))
    assert len(html.encode()) <= 8_000_000


def test_simulated_runs_are_marked_and_never_ranked(factory: ModuleType) -> None:
    data = factory.record_data(speed=9.0, stamps=["NON-COMPLIANT-DURATION", "SIMULATED"])
    entries = rank_entries(
        [factory.submission(data, run_id="fake"), factory.submission(factory.record_data())]
    )
    fake = [e for e in entries if e.record.run_id == "fake"]
    assert {verdict(e) for e in fake} == {"simulated"}
    assert {e.rank for e in fake} == {None}


def test_power_modes_share_no_ranking(factory: ModuleType) -> None:
    systems = [
        {**factory.SYSTEM, "cpu": {**factory.SYSTEM["cpu"], "governor": mode}}
        for mode in ("powersave", "performance")
    ]
    runs = [
        factory.submission(factory.record_data(speed=1.0 + n), system=system, run_id=f"r{n}")
        for n, system in enumerate(systems)
    ]
    ranks = {e.record.run_id: e.rank for e in rank_entries(runs) if e.result.kernel == "int4"}
    assert ranks == {"r0": 1, "r1": 1}


def test_other_tools_are_marked_and_escaped(factory: ModuleType) -> None:
    attack = factory.ATTACK
    row = ForeignRow(model=attack, system=attack, test=attack, value=3.0, unit=attack, note=attack)
    foreign = ForeignResults(tool="llama-bench", source=attack, source_sha256=SHA, rows=[row])
    runs = factory.gallery()[:1]
    plain = board_html(Board(submissions=runs))
    html = board_html(Board(submissions=runs, foreign=[foreign]))
    assert "unverified</span>" in html
    assert html.count("<script") == plain.count("<script")
    assert "<img src=x" not in html


def test_the_front_is_what_nothing_beats(factory: ModuleType) -> None:
    values = [
        {"ms": ms, "exact_match": right}
        for ms, right in ((1.0, 50.0), (2.0, 40.0), (3.0, 70.0), (3.0, 60.0), (4.0, 70.0))
    ]
    assert [(row["ms"], row["exact_match"]) for row in front(values, "ms")] == [
        (1.0, 50.0),
        (3.0, 70.0),
    ]
    chart = pareto(rank_entries(factory.gallery()))
    assert chart is not None
    titles = [panel.title for panel in chart.panels]
    assert any("VDD_IN" in title for title in titles)
    assert any("package-0" in title for title in titles)
    assert pareto([]) is None


def test_the_files_beside_the_page_hold_every_row(bundles: ModuleType, tmp_path: Path) -> None:
    maker: Any = bundles.Maker(tmp_path / "tree")
    maker.write()
    foreign = tmp_path / "tree" / "foreign"
    foreign.mkdir()
    (foreign / "broken.json").write_text("{")
    page = write_leaderboard([tmp_path / "tree"], tmp_path / "out", lookup=maker.lookup)
    html = page.read_text(encoding="utf-8")
    assert "foreign/broken.json" in html
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "leaderboard.csv").read_text())))
    assert [row["kernel"] for row in rows] == ["fp16", "int4"]
    for link in ("leaderboard.csv", "device/cpu.html", "workload/assistant@tiny.html"):
        assert f'href="{link}"' in html
        assert (tmp_path / "out" / link).is_file()
    (run,) = (tmp_path / "out" / "run").iterdir()
    assert f'href="run/{run.name}"' in html
