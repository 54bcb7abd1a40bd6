"""From bundles on disk to the page: what passes the checker is shown, the rest is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgebench.errors import SpecError, StorageError
from edgebench.progress import SilentProgress, Update
from edgebench_reports.leaderboard import write_leaderboard
from edgebench_reports.submissions import collect


class Watched(SilentProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, int]] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[Update]:
        yield lambda done, total: self.said.append((title, done, total))


@pytest.fixture
def tree(bundles: ModuleType, tmp_path: Path) -> tuple[Path, Any]:
    """Two good bundles and a broken one, with what is known of their workload."""
    root = tmp_path / "tree"
    bundles.Maker(root).write()
    offline = bundles.Maker(root, scenario="offline")
    offline.write()
    broken = bundles.Maker(root)
    broken.record["run_id"] = "run-2"
    (broken.write() / "record.json").write_text("{}")
    return root, offline.lookup


def test_good_bundles_are_shown_and_broken_ones_named(
    tree: tuple[Path, Any], tmp_path: Path
) -> None:
    root, lookup = tree
    progress = Watched()
    page = write_leaderboard([root], tmp_path / "out", progress=progress, lookup=lookup)
    assert page == tmp_path / "out" / "index.html"
    html = page.read_text(encoding="utf-8")
    assert "2 runs passed the checker" in html
    assert "S-03" in html
    assert "assistant@tiny/single-stream/run-2" in html
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert {row["run_id"] for row in rows} == {"run-1"}
    checked = [said for said in progress.said if said[0] == "checking bundles"]
    assert checked == [("checking bundles", done, 3) for done in range(4)]


def test_a_workload_is_looked_up_once(tree: tuple[Path, Any]) -> None:
    root, lookup = tree
    asked: list[str] = []

    def counting(name: str) -> Any:
        asked.append(name)
        return lookup(name)

    collect([root], lookup=counting)
    assert asked == ["assistant@tiny"]


def test_the_same_run_is_shown_once(tree: tuple[Path, Any], tmp_path: Path) -> None:
    root, lookup = tree
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    accepted, refused = collect([root, copy], lookup=lookup)
    assert len(accepted) == 2
    twice = [r for r in refused if "found twice" in r.findings[0]]
    assert len(twice) == 2


def test_an_unknown_workload_is_refused(tree: tuple[Path, Any]) -> None:
    root, _ = tree

    def nothing(name: str) -> Any:
        raise SpecError("[test] nothing is known")

    accepted, refused = collect([root], lookup=nothing)
    assert accepted == []
    assert len(refused) == 3


def test_an_empty_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="bench run"):
        collect([tmp_path])


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected a folder of submissions"):
        collect([tmp_path / "missing"])


def test_an_unwritable_place_is_an_error(tree: tuple[Path, Any], tmp_path: Path) -> None:
    root, lookup = tree
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_leaderboard([root], tmp_path / "file" / "out", lookup=lookup)


def test_a_clock_in_the_future_is_said(bundles: ModuleType, tmp_path: Path) -> None:
    maker = bundles.Maker(tmp_path / "tree")
    maker.record["provenance"] = {
        **maker.record["provenance"],
        "started_utc": "2999-01-01T00:00:00Z",
    }
    maker.write()
    accepted, _ = collect([tmp_path / "tree"], lookup=maker.lookup)
    assert any("2999-01-01" in text for text in accepted[0].warnings)


def test_the_page_reads_the_index(tree: tuple[Path, Any], tmp_path: Path) -> None:
    root, lookup = tree
    index = tmp_path / "index.sqlite"
    first = write_leaderboard([root], tmp_path / "a", lookup=lookup, index=index)

    def nobody(name: str) -> Any:
        raise AssertionError(f"{name} was judged again")

    second = write_leaderboard([root], tmp_path / "b", lookup=nobody, index=index)
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(SpecError, match="one tree"):
        collect([root, root], lookup=lookup, index=index)
