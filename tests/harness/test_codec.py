"""Strict reading and safe writing."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgebench import codec
from edgebench.errors import BundleError, StorageError
from edgebench.record import NllRow

ROW = NllRow(kernel="int4", sample=3, nll_nats=0.1 + 0.2, tokens=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "finite number, got NaN"),
        ("-Infinity", "finite number, got -Infinity"),
        ("1e999", "finite number, got 1e999"),
        ('{"a": 1, "a": 2}', "every key once, got 'a' twice"),
        ("[" * 33 + "]" * 33, "at most 32 levels"),
        ("[" * 50_000, "at most 32 levels"),
        ("9" * 5_000, "integer string conversion"),
        ('"\\ud800"', "surrogates not allowed"),
        ("[1,]", "strict JSON"),
        ("", "strict JSON"),
        ("1 2", "Extra data"),
        ("\ufeff1", "strict JSON"),
    ],
)
def test_what_is_not_strict_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        codec.parse_json(text.encode("utf-8", "surrogatepass"), "x.json")
    assert str(caught.value).startswith("[x.json]")
    assert len(str(caught.value)) < 300


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(BundleError, match="utf-8"):
        codec.parse_json(b'"\xff"', "x.json")


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "é \u2028 \U0001f600"]},
        ["[" * 100, '{"' * 100, '\\"[' * 50],  # brackets inside strings do not nest
        [[]] * 100,
        json.loads("[" * 32 + "]" * 32),
    ],
)
def test_strict_json_is_read(value: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert codec.parse_json(text.encode(), "x") == value


def test_a_model_survives_the_round_trip_bit_by_bit() -> None:
    assert codec.parse_model(NllRow, codec.encode_model(ROW), "x") == ROW
    [again] = codec.parse_rows(NllRow, codec.encode_row(ROW), "x", 1)
    assert again.nll_nats.hex() == ROW.nll_nats.hex()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 0}, "tokens: input should be greater than or equal to 1, got 0"),
        ({"tokens": "5"}, "tokens: input should be a valid integer, got '5'"),
        ({"tokens": 5.0}, "tokens: input should be a valid integer, got 5.0"),
        (
            {"kernel": "int8"},
            "kernel: input should be 'fp16', 'int4', 'open' or 'external', got 'int8'",
        ),
        ({"sample": -1, "tokens": 0}, "and 1 more"),
        ({"extra\n\x1b": 1}, r"extra\?\?: extra inputs are not permitted, got 1"),
        ({"kernel": "x" * 500}, r"x\.\.\."),
    ],
)
def test_a_wrong_field_is_named_in_one_line(change: dict[str, Any], message: str) -> None:
    data = json.dumps({**ROW.model_dump(), **change}).encode()
    with pytest.raises(BundleError, match=message) as caught:
        codec.parse_model(NllRow, data, "nll.jsonl:7")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_rows_must_be_whole_few_and_short() -> None:
    line = codec.encode_row(ROW)
    assert list(codec.parse_rows(NllRow, b"", "x", 9)) == []
    assert list(codec.parse_rows(NllRow, line * 9, "x", 9)) == [ROW] * 9
    with pytest.raises(BundleError, match="truncated"):
        list(codec.parse_rows(NllRow, line[:-1], "x", 9))
    with pytest.raises(BundleError, match="at most 9 rows, got 10"):
        list(codec.parse_rows(NllRow, line * 10, "x", 9))
    with pytest.raises(BundleError, match=r"x:2\] .*bytes a line"):
        list(codec.parse_rows(NllRow, line + b" " * (1 << 17) + b"\n", "x", 9))
    with pytest.raises(BundleError, match=r"x:2\] .*strict JSON"):
        list(codec.parse_rows(NllRow, line + b"\n", "x", 9))


def test_canonical_json_has_one_form() -> None:
    assert codec.canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        codec.canonical_json(math.nan)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert codec.read_capped(path, 5) == b"12345"
    with pytest.raises(BundleError, match="at most 4 bytes, got 5"):
        codec.read_capped(path, 4)
    os.truncate(path, 10 << 30)  # sparse: claims 10 GB
    with pytest.raises(BundleError, match="got 10737418240"):
        codec.read_capped(path, 1 << 20)


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("link", "symbolic link"), ("pipe", "something else"), ("no", "No such")):
        with pytest.raises(BundleError, match=message):
            codec.read_capped(tmp_path / name, 9)


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert codec.sha256_bytes(b"abc") == expected
    assert codec.sha256_file(tmp_path / "a") == expected


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    for data in (b"old and long", b"new"):
        codec.write_atomic(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_appends_add_up(tmp_path: Path) -> None:
    assert codec.append_synced(tmp_path / "a", b"12") == 2
    assert codec.append_synced(tmp_path / "a", b"345") == 5
    assert (tmp_path / "a").read_bytes() == b"12345"


class Faulty:
    """Stands for `os.write`: takes three bytes, then fails as a full disk does."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.write = os.write
        self.calls = 0

    def __call__(self, descriptor: int, data: Any) -> int:
        self.calls += 1
        if self.calls > 1:
            raise OSError(self.code, os.strerror(self.code))
        return self.write(descriptor, bytes(data[:3]))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "full disk; free some space, then start again"),
        (errno.EDQUOT, "full disk"),
        (errno.EROFS, "Read-only file system; choose another folder"),
        (errno.EIO, "Input/output error; check the disk, then start again"),
    ],
)
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    for write in (codec.write_atomic, codec.append_synced):
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", Faulty(code))
            with pytest.raises(StorageError, match=message) as caught:
                write(path, b"after this")
        assert caught.value.exit_code == 4
        assert path.read_bytes() == b"before"
        assert [found.name for found in tmp_path.iterdir()] == ["a"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    codec.append_synced(small_disk / "a", b"x" * 1000)
    with pytest.raises(StorageError, match="full disk"):
        codec.append_synced(small_disk / "a", b"x" * 100_000)
    assert (small_disk / "a").stat().st_size == 1000
    with pytest.raises(StorageError, match="full disk"):
        codec.write_atomic(small_disk / "a", b"x" * 100_000)
    assert [path.name for path in small_disk.iterdir()] == ["a"]


def test_folders_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        codec.make_folder(tmp_path / "file" / "below")
