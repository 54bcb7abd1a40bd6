"""The tables: what was not measured is a dash, energy domains never share a column."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from edgebench_reports.cards import MAX_CARDS, make_cards
from edgebench_reports.columns import Cell
from edgebench_reports.entries import rank_entries
from edgebench_reports.group_page import group_html
from edgebench_reports.tables import Table, energy_columns, make_table

DASH = "–"
ALWAYS_KNOWN = {
    "workload", "system", "device", "track", "organisation", "kernel", "transform", "weights MB",
    "batch", "samples", "profile", "verdict", "run",
}  # fmt: skip


def cells(table: Table, heading: str) -> list[Cell]:
    """One column's cells."""
    at = [column.heading for column in table.columns].index(heading)
    return [row[at] for row in table.rows]


def single(factory: ModuleType, data: dict[str, Any], **changes: Any) -> Table:
    """The single-stream table of one run."""
    entries = rank_entries([factory.submission(data, **changes)])
    return make_table(entries, "single-stream")


def test_every_unmeasured_cell_is_a_dash_without_a_value(factory: ModuleType) -> None:
    table = single(factory, factory.bare(factory.record_data()))
    for row in table.rows:
        for column, cell in zip(table.columns, row, strict=True):
            if column.heading not in ALWAYS_KNOWN:
                assert (cell.text, cell.value) == (DASH, None), column.heading


def test_zero_is_shown_as_zero(factory: ModuleType) -> None:
    data = factory.edited(factory.record_data(), "int4", accuracy=0.0, tokens_per_s=0.0)
    table = single(factory, data)
    assert [c.value for c in cells(table, "exact match %") if c.text == "0.0"] == [0.0]
    assert [c.value for c in cells(table, "tokens/s") if c.text == "0"] == [0.0]


def test_cells_sort_by_the_unrounded_value(factory: ModuleType) -> None:
    data = factory.edited(factory.record_data(), "int4", latency_p90_ms=21.34567)
    shown = cells(single(factory, data), "p90 ms")
    assert [(c.text, c.value) for c in shown] == [("21.3", 21.34567), ("52.0", 52.0)]


def test_each_meter_domain_has_its_own_column(factory: ModuleType) -> None:
    table = make_table(rank_entries(factory.gallery()), "single-stream")
    headings = [c.heading for c in table.columns if c.heading.startswith("J/sample")]
    assert headings == ["J/sample VDD_IN (ina)", "J/sample package-0 (rapl)"]
    pairs = zip(*(cells(table, heading) for heading in headings), strict=True)
    assert all(DASH in (first.text, second.text) for first, second in pairs)
    board = [c.value for c in cells(table, headings[0]) if c.value is not None]
    assert sorted(set(board)) == [31.0 / 128, 88.0 / 128]


def test_energy_without_joules_is_never_shown(factory: ModuleType) -> None:
    partial = {"status": "partial", "meter": "rapl", "domain": "package-0", "mean_power_W": 20.0,
               "coverage": 0.4}  # fmt: skip
    data = factory.edited(factory.record_data(), "int4", energy=partial)
    entries = rank_entries([factory.submission(data)])
    assert [column.heading for column in energy_columns(entries)] == ["J/sample"]
    assert {c.text for c in cells(make_table(entries, "single-stream"), "J/sample")} == {DASH}


def test_every_column_says_what_it_means(factory: ModuleType) -> None:
    for scenario in ("single-stream", "offline"):
        table = make_table(rank_entries(factory.gallery()), scenario)
        headings = [column.heading for column in table.columns]
        assert len(set(headings)) == len(headings)
        assert all(len(column.meaning) > 10 for column in table.columns)


def test_what_is_equal_in_all_rows_is_hidden_at_first(factory: ModuleType) -> None:
    shown = {c.heading for c in single(factory, factory.record_data()).columns if c.is_shown}
    assert {"workload", "system", "kernel", "verdict", "run"} <= shown
    assert not {"track", "profile"} & shown
    mixed = [
        factory.submission(factory.record_data()),
        factory.submission(factory.record_data(track="open")),
    ]
    table = make_table(rank_entries(mixed), "single-stream")
    assert "track" in {column.heading for column in table.columns if column.is_shown}


def test_every_row_shows_its_stamps(factory: ModuleType) -> None:
    notes = {cell.note for cell in cells(single(factory, factory.record_data()), "workload")}
    assert notes == {"quick · NON-COMPLIANT-DURATION"}


def test_a_card_compares_the_first_with_its_own_reference(factory: ModuleType) -> None:
    entries = rank_entries([factory.submission(factory.record_data(*c)) for c in factory.SPEEDS])
    cards = make_cards(entries)
    shown = [(card.workload, card.scenario, card.speedup) for card in cards]
    assert shown == [
        ("assistant", "single-stream", "2.43×"),
        ("assistant", "offline", "1.71×"),
        ("assistant@300m", "single-stream", "3.18×"),
        ("assistant@300m", "offline", "2.39×"),
    ]
    assert [(bar.kernel, bar.text, bar.percent) for bar in cards[0].bars] == [
        ("fp16", "52.0 ms", 100.0),
        ("int4", "21.3 ms", 41.0),
    ]
    assert cards[0].place.startswith("% of bandwidth: the weights fit")
    assert cards[2].place == "52 % of the measured bandwidth"
    assert (cards[0].accuracy, cards[0].ratio) == ("98.1 %", "99.7 %")


def test_an_open_model_is_told_by_what_was_done_to_it(factory: ModuleType) -> None:
    entries = rank_entries(
        [factory.submission(factory.record_data(track=track)) for track in ("closed", "open")]
    )
    told = {
        (entry.record.track, entry.result.kernel): cell.note
        for entry, cell in zip(
            entries, cells(make_table(entries, "single-stream"), "track"), strict=True
        )
    }
    assert told == {
        ("closed", "fp16"): "",
        ("closed", "int4"): "",
        ("open", "fp16"): "",
        ("open", "int4"): "rtn:group=128",
    }
    assert sorted(card.transform for card in make_cards(entries)) == ["", "rtn:group=128"]
    page = group_html("Workload assistant", "system", entries)
    assert page.count("<td>rtn:group=128</td>") == 2


def test_unranked_entries_have_no_card_and_cards_are_few(factory: ModuleType) -> None:
    missed = factory.edited(factory.record_data(), "int4", accuracy_passed=False)
    assert make_cards(rank_entries([factory.submission(missed)])) == []
    host = factory.record_data()["host"]
    many = [
        factory.submission(factory.record_data(host={**host, "device": f"device-{number}"}))
        for number in range(MAX_CARDS + 5)
    ]
    assert len(make_cards(rank_entries(many))) == MAX_CARDS
