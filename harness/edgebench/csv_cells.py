"""Cells of CSV files that people open in spreadsheets."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> object:
    """The same value; text that a spreadsheet would run as a formula gets an apostrophe before it.

    Numbers are no text and stay as they are. Names in a bundle are the submitter's.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
