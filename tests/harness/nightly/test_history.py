"""The history: broken lines are skipped and named, gaps are said, creep is found."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebench.nightly.creep import find_creep, levels
from edgebench.nightly.history import HistoryRow, append_history, gaps, limit_from, read_history
from edgebench.paired import log_ratio, percent

ROW: dict[str, Any] = {
    "kind": "night",
    "night_utc": "2026-01-01T02:00:00Z",
    "suite": "s",
    "system": "box",
    "cell": "c",
    "baseline": "v1",
    "head": "abc",
    "change_percent": 0.1,
    "interval_percent": (-0.5, 0.7),
    "pairs": 8,
    "limit_percent": 2.0,
    "state": "no change",
}


def row(**changes: Any) -> HistoryRow:
    return HistoryRow(**{**ROW, **changes})


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.jsonl"
    assert read_history(path) == ([], [])
    append_history(path, [row()])
    append_history(path, [row(head="def"), row(change_percent=None, interval_percent=None)])
    rows, faults = read_history(path)
    assert [one.head for one in rows] == ["abc", "def", "abc"]
    assert faults == []


def test_a_broken_line_is_named_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_history(path, [row()])
    with path.open("a") as file:
        file.write('{"half": \n{"schema_version": 2}\n')
    append_history(path, [row(head="def")])
    rows, faults = read_history(path)
    assert [one.head for one in rows] == ["abc", "def"]
    assert len(faults) == 2
    assert "history.jsonl:2" in faults[0]
    assert "history.jsonl:3" in faults[1]


def test_missing_nights_and_the_future_are_said() -> None:
    now = datetime(2026, 1, 12, tzinfo=timezone.utc)
    said = gaps(
        [
            "2026-01-01T02:00:00Z",
            "2026-01-02T02:00:00Z",
            "2026-01-06T02:00:00Z",
            "2030-01-01T00:00:00Z",
            "yesterday",
        ],
        now,
    )
    assert any("no night between 2026-01-02 and 2026-01-06 (4 days)" in text for text in said)
    assert any("in the future: 2030" in text for text in said)
    assert any("cannot be read: 'yesterday'" in text for text in said)
    assert gaps(["2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z"], now) == []


def test_the_limit_comes_from_what_this_device_saw_of_nothing() -> None:
    aa = [row(kind="aa", change_percent=value) for value in np.linspace(-3, 3, 41)]
    limit, why = limit_from(aa, "c", "box", floor_percent=1.0, unknown=5.0)
    assert percent(limit) == pytest.approx(1.5 * 3, rel=0.1)
    assert "41 A/A" in why
    quiet = [row(kind="aa", change_percent=0.01 * n) for n in range(20)]
    assert limit_from(quiet, "c", "box", floor_percent=1.0, unknown=5.0)[0] == log_ratio(1)
    for other in (limit_from(aa, "d", "box", floor_percent=1, unknown=5),
                  limit_from(aa, "c", "bus", floor_percent=1, unknown=5),
                  limit_from([row()] * 50, "c", "box", floor_percent=1, unknown=5)):  # fmt: skip
        assert other[0] == log_ratio(5)


def nights(changes: list[float]) -> list[HistoryRow]:
    return [
        row(night_utc=f"2026-01-{day:02d}T00:00:00Z", head=f"h{day}", change_percent=change)
        for day, change in enumerate(changes, start=1)
    ]


def test_ten_nights_of_half_a_percent_are_found_with_their_range() -> None:
    draw = np.random.default_rng(5)
    flat = list(draw.normal(0, 0.2, 8))
    slope = [0.5 * step + draw.normal(0, 0.2) for step in range(1, 11)]
    found = find_creep(nights([*flat, *slope]), log_ratio(2))
    assert found is not None
    assert percent(found.change) == pytest.approx(4, abs=1.5)
    assert found.first_head < found.last_head or len(found.first_head) < len(found.last_head)


def test_noise_speedups_and_one_bad_night_are_no_creep() -> None:
    draw = np.random.default_rng(6)
    false = sum(
        find_creep(nights(list(draw.normal(0, 0.5, 28))), log_ratio(2)) is not None
        for _ in range(200)
    )
    assert false <= 2  # a step beyond four spreads
    assert find_creep(nights([0.0] * 10 + [-5.0] * 10), log_ratio(2)) is None
    one_bad = [0.1, -0.1, 0.2, 0.0, -0.2, 0.1, 9.0, 0.1, 0.0, -0.1, 0.1, 0.0]
    assert find_creep(nights(one_bad), log_ratio(2)) is None


def test_a_short_history_has_one_level() -> None:
    assert levels([]) == []
    assert levels([1.0, 5.0, 9.0]) == [(0, 3)]
    assert find_creep(nights([0.0, 5.0, 9.0]), log_ratio(2)) is None
    steps = levels([0.0] * 6 + [1.0] * 6)
    assert steps == [(0, 6), (6, 12)]
