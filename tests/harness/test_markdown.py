"""Cells of Markdown tables hold any text."""

from __future__ import annotations

import pytest

from edgebench import markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),  # an escape of the text's own ends no cell either
        ("<b>", "&lt;b>"),
        ("`code", "'code"),
        ("**caught**", "**caught**"),
    ],
)
def test_a_cell_ends_where_it_should(text: str, shown: str) -> None:
    assert markdown.cell(text) == shown


def test_no_text_breaks_a_line() -> None:
    assert "\n" not in markdown.row(["a\nb", "\x1b[31mred", "c"])


def test_a_table_begins_with_two_lines() -> None:
    assert markdown.header(("a", "b")) == ["| a | b |", "| --- | --- |"]
