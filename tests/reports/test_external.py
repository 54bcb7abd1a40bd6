"""An external engine on the leaderboard: named as one, in a group of its own, never among INT4."""

from __future__ import annotations

from copy import deepcopy
from types import ModuleType
from typing import Any

from edgebench.record import rows
from edgebench.rows import markdown
from edgebench_reports.cards import make_cards
from edgebench_reports.details import describe_runs
from edgebench_reports.entries import Submission, rank_entries
from edgebench_reports.leaderboard import leaderboard_html
from edgebench_reports.tables import make_table

SERVER = {
    "url": "http://127.0.0.1:8000",
    "endpoint": "/v1/completions",
    "prompt_form": "text",
    "model": "<b>assistant</b>",
    "software": "uvicorn <script>",
    "concurrency": 8,
    "notes": ["the server answered some prompts before anything was timed"],
}


def external_data(factory: ModuleType, **options: Any) -> dict[str, Any]:
    """A record of an external engine: what is unknown is null."""
    data: dict[str, Any] = deepcopy(factory.record_data(**options))
    data["external"] = SERVER
    data["stamps"] = [*data["stamps"], "EXTERNAL-ENGINE"]
    roofline = dict.fromkeys(data["results"][1]["roofline"]) | {"reason": "bytes unknown"}
    data["results"][1] |= {
        "kernel": "external",
        "executed_path": "openai /v1/completions, uvicorn <script>, model assistant",
        "transform": "unknown",
        "weight_bytes": None,
        "peak_memory_bytes": None,
        "call_nll": None,
        "roofline": roofline,
        "warnings": ["E-02: an external engine: its weights, bytes and memory are unknown"],
    }
    return data


def both(factory: ModuleType) -> list[Submission]:
    """Our own INT4, and an external engine that is ten times as fast."""
    own = factory.submission(factory.record_data(), run_id="own")
    other = factory.submission(external_data(factory, speed=10.0), run_id="other")
    return [own, other]


def test_it_has_a_ranking_of_its_own(factory: ModuleType) -> None:
    entries = rank_entries(both(factory))
    ranked = {(e.record.run_id, e.result.kernel): e.rank for e in entries if e.rank}
    assert ranked == {("own", "int4"): 1, ("other", "external"): 1}


def test_external_engines_are_ranked_among_themselves(factory: ModuleType) -> None:
    runs = [
        factory.submission(external_data(factory, speed=speed), run_id=name)
        for name, speed in (("slow", 1.0), ("fast", 2.0))
    ]
    ranked = {e.record.run_id: e.rank for e in rank_entries(runs) if e.rank}
    assert ranked == {"fast": 1, "slow": 2}


def test_every_place_calls_it_by_its_name(factory: ModuleType) -> None:
    entries = rank_entries(both(factory))
    table = make_table(entries, "single-stream")
    kernel = [column.heading for column in table.columns].index("kernel")
    assert "external engine" in {row[kernel].text for row in table.rows}
    card = next(c for c in make_cards(entries) if c.candidate != "INT4")
    assert card.candidate == "external engine"
    assert card.label.endswith("external engine")
    assert card.place == "% of bandwidth: bytes unknown"
    described = next(run for run in describe_runs(entries) if run.run_id == "other")
    facts = dict(described.facts)
    assert facts["external engine"] == "uvicorn <script>"
    assert facts["asked"] == "prompts as text, 8 at a time offline"
    assert "EXTERNAL-ENGINE" in described.stamps
    assert "| external engine |" in markdown(rows(both(factory)[1].record))


def test_what_a_server_says_of_itself_is_escaped(factory: ModuleType) -> None:
    page = leaderboard_html(both(factory))
    assert "external engine" in page
    assert "uvicorn &lt;script&gt;" in page
    assert "uvicorn <script>" not in page
    assert "<b>assistant</b>" not in page


def test_the_legend_names_it_only_where_it_is_shown(factory: ModuleType) -> None:
    assert "</svg>external engine" not in leaderboard_html(both(factory)[:1])
    assert "</svg>external engine" in leaderboard_html(both(factory))
