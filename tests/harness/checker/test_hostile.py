"""Bundles from an enemy: each is refused with the right rule, and nothing outside is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgebench import layout
from edgebench.bundle import find_bundles, read_bundle
from edgebench.checker import check, check_or_raise
from edgebench.checker.report import check_command
from edgebench.errors import BundleError, SpecError

if TYPE_CHECKING:
    from tests.harness.checker.conftest import Maker

Edit = Callable[[Path], None]
SCRIPT = "<script>alert(1)</script>"


def replace_text(name: str, before: str, after: str) -> Edit:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after, 1))

    return edit


def append(name: str, text: str) -> Edit:
    def edit(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return edit


def sparse(name: str, size: int) -> Edit:
    return lambda folder: os.truncate(folder / name, size)


def linked(folder: Path) -> None:
    (folder / "system.json").unlink()
    (folder / "system.json").symlink_to("/etc/passwd")


def pipe(folder: Path) -> None:
    (folder / "power.csv").unlink()
    os.mkfifo(folder / "power.csv")


def deep(folder: Path) -> None:
    (folder / "system.json").write_text("[" * 100_000 + "]" * 100_000)


def many_files(folder: Path) -> None:
    for number in range(50):
        (folder / f"file{number}").touch()


def half_sized(folder: Path) -> None:
    data = (folder / "samples.jsonl").read_bytes()
    (folder / "samples.jsonl").write_bytes(data[: len(data) // 2])


def flip(folder: Path) -> None:
    data = bytearray((folder / "int4.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "int4.safetensors").write_bytes(data)


# (rule, what the enemy did, whether the checksums are made again afterwards)
HOSTILE: tuple[tuple[str, str, Edit, bool], ...] = (
    ("S-01", "a folder", lambda f: (f / "src").mkdir(), False),
    ("S-01", "an unknown file", lambda f: (f / "run.sh").touch(), False),
    ("S-01", "many files", many_files, False),
    ("S-01", "a link", linked, False),
    ("S-01", "a pipe", pipe, False),
    ("S-01", "no samples", lambda f: (f / "samples.jsonl").unlink(), False),
    ("S-01", "10 GB of samples", sparse("samples.jsonl", 10 << 30), False),
    ("S-01", "2 MB of record", sparse("record.json", 2 << 20), False),
    ("S-01", "escape upwards", append("SHA256SUMS", f"{'0' * 64}  ../../x\n"), False),
    ("S-01", "escape to root", append("SHA256SUMS", f"{'0' * 64}  /etc/passwd\n"), False),
    ("S-01", "escape downwards", append("SHA256SUMS", f"{'0' * 64}  a/b\n"), False),
    ("S-01", "dots", append("SHA256SUMS", f"{'0' * 64}  ..\n"), False),
    ("S-03", "a sum too many", append("SHA256SUMS", f"{'0' * 64}  other\n"), False),
    ("S-03", "no sum", lambda f: (f / "SHA256SUMS").write_text(""), False),
    ("S-03", "sums that are none", lambda f: (f / "SHA256SUMS").write_text("hello\n"), False),
    ("S-03", "sums in Latin-1", lambda f: (f / "SHA256SUMS").write_bytes(b"\xe9"), False),
    ("S-03", "a flipped bit", flip, False),
    ("S-03", "half the samples", half_sized, False),
    ("S-04", "half the samples, sealed", half_sized, True),
    ("S-04", "NaN", replace_text("ceilings.jsonl", "2000000.0", "NaN"), True),
    ("S-04", "infinity", replace_text("ceilings.jsonl", "2000000.0", "1e999"), True),
    ("S-04", "a NaN sample", replace_text("samples.jsonl", '"query": 0', '"query": NaN'), True),
    ("S-04", "a time before 0", replace_text("samples.jsonl", '"issued_ns": ', '"issued_ns": -'),
     True),
    ("S-04", "a huge number", replace_text("samples.jsonl", '"query": 0', f'"query": 1{"0" * 30}'),
     True),
    ("S-04", "digits without end", replace_text("samples.jsonl", '"query": 0',
                                                f'"query": {"9" * 5000}'), True),
    ("S-04", "a key twice", replace_text("record.json", '"run_id"', '"run_id": "x", "run_id"'),
     True),
    ("S-04", "a key of its own", replace_text("record.json", '"run_id"', '"x": 1, "run_id"'), True),
    ("S-04", "another version", replace_text("record.json", '"schema_version": 1',
                                             '"schema_version": 2'), True),
    ("S-04", "text for a number", replace_text("samples.jsonl", '"query": 0', '"query": "0"'),
     True),
    ("S-04", "half a character", replace_text("system.json", "test CPU", "\\ud800"), True),
    ("S-04", "a list of systems", lambda f: (f / "system.json").write_text("[]"), True),
    ("S-04", "brackets without end", deep, True),
    ("S-04", "binary", lambda f: (f / "ledger.json").write_bytes(b"\xff\xfe\x00"), True),
    ("S-04", "an empty record", lambda f: (f / "record.json").write_text(""), True),
    ("S-05", "no sums at all", lambda f: (f / "SHA256SUMS").unlink(), False),
    ("S-05", "an unfinished run", lambda f: (f / "progress.json").write_text("{}"), False),
    ("S-05", "complete: false", replace_text("record.json", '"complete": true',
                                             '"complete": false'), True),
    *(("S-04", f"a path that is {what}", replace_text("record.json", "w4a16/test", path), True)
      for what, path in (("blank behind", "w4a16/test "), ("blank before", " w4a16/test"),
                         ("hard blank behind", "w4a16/test\u00a0"), ("empty", ""),
                         ("in two lines", "w4a16\\n/test"), ("coloured", "\\u001b[31mw4a16"))),
    ("S-02", "another system", replace_text("record.json", '"system": "box"', '"system": "fox"'),
     True),
)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "edit", "is_resealed"),
    [(rule, edit, again) for rule, _, edit, again in HOSTILE],
    ids=[f"{rule} {what}" for rule, what, _, _ in HOSTILE],
)
def test_a_hostile_bundle_is_refused(
    maker: Maker, resealed: Callable[[Path], None], rule: str, edit: Edit, is_resealed: bool
) -> None:
    folder = maker.write()
    edit(folder)
    if is_resealed:
        resealed(folder)
    assert [found.rule_id for found in check(folder, lookup=maker.lookup)] == [rule]
    with pytest.raises(BundleError, match=rule) as caught:
        check_or_raise(folder, lookup=maker.lookup)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    text, code = check_command(folder, lookup=maker.lookup)
    assert code == 5
    assert rule in text


@pytest.mark.parametrize("path", ["nothing", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"S-01.*folder"):
        read_bundle(tmp_path / path)


def test_a_linked_tree_is_not_searched(maker: Maker, tmp_path: Path) -> None:
    folder = maker.write()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "tree").symlink_to(maker.root)
    assert list(find_bundles(tmp_path / "links")) == []
    assert list(find_bundles(maker.root)) == [folder]
    assert list(find_bundles(folder)) == [folder]


FREE_TEXTS = (
    ("results", 0, "executed_path"),
    ("results", 0, "transform"),
    ("results", 0, "energy", "reason"),
    ("results", 0, "roofline", "reason"),
    ("host", "executed_on"),
    ("provenance", "command"),
    ("provenance", "started_utc"),
    ("workload", "disclosure"),
)


def test_script_in_every_free_text_neither_crashes_nor_reaches_the_table(maker: Maker) -> None:
    for *path, last in FREE_TEXTS:
        target: Any = maker.record
        for step in path:
            target = target[step]
        target[last] = SCRIPT
    maker.system["unknown"] = {SCRIPT: SCRIPT}
    maker.system["cpu"]["model"] = SCRIPT
    maker.record["stamps"] = [SCRIPT]
    text, code = check_command(maker.write(), lookup=maker.lookup)
    assert code == 5  # the stamps and fp16's transform are wrong
    assert "<script>" not in text
    assert "&lt;script>" in text


def names_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every string in JSON data."""
    if isinstance(value, str):
        return [path]
    items: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    return [found for key, item in items for found in names_in(item, (*path, key))]


def test_script_in_any_one_string_of_the_record_is_survived(maker: Maker) -> None:
    folder = maker.write()
    clean = json.dumps(maker.record)
    for *path, last in names_in(maker.record):
        target: Any = (record := json.loads(clean))
        for step in path:
            target = target[step]
        target[last] = SCRIPT
        (folder / "record.json").write_text(json.dumps(record))
        (folder / "SHA256SUMS").write_text(sums_of(folder))
        text, code = check_command(folder, lookup=maker.lookup)
        assert code in (0, 5)
        assert "<script>" not in text


def sums_of(folder: Path) -> str:
    from edgebench.codec import sha256_file

    names = sorted(path.name for path in folder.iterdir() if path.name != layout.CHECKSUMS)
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in names)


def test_control_characters_do_not_reach_the_terminal(maker: Maker) -> None:
    maker.record["stamps"] = ["\x1b[2Jgone\nnext line"]
    text, _ = check_command(maker.write(), lookup=maker.lookup)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 6  # verdict, blank, head, rule, D-04, S-07


def test_hostile_tensors_are_found(maker: Maker, resealed: Callable[[Path], None]) -> None:
    folder = maker.write()
    for data in (b"", b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}"):
        (folder / "int4.safetensors").write_bytes(data)
        resealed(folder)
        assert {found.rule_id for found in check(folder, lookup=maker.lookup)} == {"W-06", "S-07"}


def test_absurd_times_are_found(maker: Maker) -> None:
    shift = 2**64 - 1 - max(row["completed_ns"] for row in maker.samples)
    for row in maker.samples:
        for name in ("issued_ns", "first_token_ns", "completed_ns"):
            row[name] += shift
    assert {found.rule_id for found in maker.findings()} == {"R-01", "S-07"}


def test_sums_past_a_double_are_found(maker: Maker) -> None:
    for row in maker.nll:
        row["nll_nats"] = 1e308
    findings = maker.findings()
    assert {found.rule_id for found in findings} == {"N-01", "S-07"}
    assert not any("http" in str(found) or "\n" in str(found) for found in findings)


def test_the_report_in_json(maker: Maker) -> None:
    text, code = check_command(maker.write(), form="json", lookup=maker.lookup)
    assert (code, json.loads(text)["passed"], json.loads(text)["findings"]) == (0, True, [])
    with pytest.raises(SpecError, match="did you mean 'json'"):
        check_command(maker.root, form="jsn", lookup=maker.lookup)
