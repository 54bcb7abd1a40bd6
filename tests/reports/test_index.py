"""The index: rebuilt where it is damaged, never trusted beyond the files it describes."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgebench.errors import SpecError, StorageError
from edgebench.progress import SilentProgress
from edgebench_reports import index as index_room
from edgebench_reports.index import Refreshed, default_index, index_command, read_tree
from edgebench_reports.judged import Judged, judge_sha256


class Said(SilentProgress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Counted:
    """A lookup that counts how often a bundle asked for its workload."""

    def __init__(self, lookup: Any) -> None:
        self.lookup, self.count = lookup, 0

    def __call__(self, name: str) -> Any:
        self.count += 1
        return self.lookup(name)


@pytest.fixture
def tree(bundles: ModuleType, tmp_path: Path) -> tuple[Path, Counted]:
    """A good bundle of each scenario, and what is known of their workload."""
    root = tmp_path / "tree"
    bundles.Maker(root).write()
    offline = bundles.Maker(root, scenario="offline")
    offline.write()
    return root, Counted(offline.lookup)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "index.sqlite"


def read(
    tree: tuple[Path, Counted], place: Path, said: Said | None = None
) -> tuple[Refreshed, list[Judged]]:
    return read_tree(tree[0], place, lookup=tree[1], progress=said)


def test_a_bundle_is_judged_once(tree: tuple[Path, Counted], place: Path) -> None:
    first, bundles_first = read(tree, place)
    second, bundles_second = read(tree, place)
    assert (first.total, first.judged) == (2, 2)
    assert (second.total, second.judged, second.forgotten) == (2, 0, 0)
    assert tree[1].count == 2
    assert bundles_first == bundles_second
    assert all(one.record is not None and one.system and one.evidence for one in bundles_second)


def test_evidence_says_what_the_rows_say(tree: tuple[Path, Counted], place: Path) -> None:
    _, judged = read(tree, place)
    single = next(one for one in judged if one.record and one.record.scenario == "single-stream")
    record = single.record
    assert record is not None
    by_kernel = {own.kernel: own for own in single.evidence.latencies}
    for result in record.results:
        own = by_kernel[result.kernel]
        assert own.count == result.queries
        assert own.quantiles_ms == sorted(own.quantiles_ms)
        assert len(own.quantiles_ms) == 101
        assert result.latency_p50_ms is not None
        assert own.quantiles_ms[0] <= result.latency_p50_ms <= own.quantiles_ms[-1]
    names = {file.name for file in single.evidence.files}
    assert {"record.json", "samples.jsonl"} <= names
    assert all(file.size_bytes for file in single.evidence.files)


def test_a_changed_bundle_is_judged_again_and_refused(
    tree: tuple[Path, Counted], place: Path
) -> None:
    read(tree, place)
    samples = next(tree[0].rglob("samples.jsonl"))
    data = samples.read_bytes()
    status = samples.stat()
    samples.write_bytes(data.replace(b"performance", b"performancf", 1))
    os.utime(samples, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    done, judged = read(tree, place)
    assert done.judged == 1
    refused = [one for one in judged if one.record is None]
    assert [("S-03" in one.findings[0]) for one in refused] == [True]


def test_what_is_gone_is_forgotten(tree: tuple[Path, Counted], place: Path) -> None:
    read(tree, place)
    gone = next(tree[0].rglob("record.json"))
    gone.unlink()
    done, judged = read(tree, place)
    assert (done.total, done.forgotten) == (1, 1)
    assert len(judged) == 1


@pytest.mark.parametrize("damage", ["garbage", "page", "table", "version", "row"])
def test_a_damaged_index_is_made_again_and_that_is_said(
    tree: tuple[Path, Counted], place: Path, damage: str
) -> None:
    _, whole = read(tree, place)
    if damage == "garbage":
        place.write_bytes(b"this is no database at all, and never was one" * 100)
    elif damage == "page":
        data = bytearray(place.read_bytes())
        data[4096 : 4096 * 4] = b"\xff" * (4096 * 3)
        place.write_bytes(data)
    else:
        base = sqlite3.connect(place)
        base.execute(
            {
                "table": "DROP TABLE results",
                "version": "UPDATE meta SET value = '0' WHERE key = 'version'",
                "row": "UPDATE bundles SET record = '{}'",
            }[damage]
        )
        if damage == "table":  # something to do, so that the missing table is met
            base.execute("UPDATE bundles SET fingerprint = 'old'")
        base.commit()
        base.close()
    said = Said()
    done, judged = read(tree, place, said)
    assert done.judged == 2
    assert judged == whole
    assert any("damaged" in note for note in said.notes)


def test_another_checker_judges_everything_again(
    tree: tuple[Path, Counted], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tree, place)
    monkeypatch.setattr(index_room, "judge_sha256", lambda: "another")
    said = Said()
    assert read(tree, place, said)[0].judged == 2
    assert any("checker has changed" in note for note in said.notes)


def test_the_judge_is_named_by_its_code() -> None:
    assert len(judge_sha256()) == 64
    assert judge_sha256() == judge_sha256()


def test_a_broken_bundle_is_named_and_skipped(
    bundles: ModuleType, tree: tuple[Path, Counted], place: Path
) -> None:
    broken = bundles.Maker(tree[0])
    broken.record["run_id"] = "run-2"
    (broken.write() / "record.json").write_text("{")
    text = index_command([tree[0]], index=place, lookup=tree[1], progress=SilentProgress())
    assert "3 bundles, 3 judged now, 0 gone, 1 refused" in text
    assert "refused: closed/" in text
    assert "/run-2: " in text


def test_a_bundle_of_the_future_is_named_as_that(
    bundles: ModuleType, tree: tuple[Path, Counted], place: Path
) -> None:
    future = bundles.Maker(tree[0])
    future.record |= {"run_id": "run-9", "schema_version": 2}
    future.write()
    _, judged = read(tree, place)
    (refused,) = [one for one in judged if one.record is None]
    assert "schema 2; a newer EdgeBench wrote it" in refused.findings[0]


def test_the_flat_rows_answer_sql(tree: tuple[Path, Counted], place: Path) -> None:
    read(tree, place)
    with sqlite3.connect(place) as base:
        rows = base.execute(
            "SELECT kernel, valid, latency_p90_ms FROM results JOIN bundles USING (path) "
            "WHERE scenario = 'single-stream' ORDER BY kernel"
        ).fetchall()
    base.close()
    assert [row[0] for row in rows] == ["fp16", "int4"]
    assert rows[1][2] < rows[0][2]


def test_every_column_is_documented(tree: tuple[Path, Counted], place: Path, root: Path) -> None:
    read(tree, place)
    text = (root / "docs" / "index.md").read_text(encoding="utf-8")
    base = sqlite3.connect(place)
    for table in ("meta", "bundles"):
        for column in base.execute(f"PRAGMA table_info({table})"):
            assert f"`{column[1]}`" in text, column[1]
    base.close()


def test_a_tree_has_its_own_index_outside_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    one, other = default_index(tmp_path / "a"), default_index(tmp_path / "b")
    assert one != other
    assert one.parent == tmp_path / "cache" / "index"


def test_a_missing_tree_and_an_unwritable_index_are_errors(
    tree: tuple[Path, Counted], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="expected a folder of submissions"):
        read_tree(tmp_path / "nowhere", tmp_path / "i", lookup=tree[1])
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        read(tree, tmp_path / "file" / "index.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="--index"):
        read(tree, tmp_path / "folder")
    with pytest.raises(SpecError, match="one tree"):
        index_command(
            [tree[0], tree[0]], index=tmp_path / "i", lookup=tree[1], progress=SilentProgress()
        )
