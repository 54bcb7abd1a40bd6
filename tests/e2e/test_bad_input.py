"""Bad input: one clear line, the right exit code, nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Said, bench, bench_with_workloads

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native]

QUICKEST = ("run", "--workload", "assistant", "--scenario", "offline", "--budget", "30")


def one_line(said: Said) -> str:
    """Return the error line, which must be the only one of its kind."""
    (line,) = (line for line in said.err.splitlines() if line.startswith("bench: "))
    assert "Traceback" not in said.err
    return line


@pytest.mark.parametrize(
    ("option", "came", "nearest"),
    [
        ("--track", "closd", "closed"),
        ("--workload", "assistent", "assistant"),
        ("--device", "orim", "orin"),
        ("--kernel", "fp16,in4", "int4"),
        ("--scenario", "offlin", "offline"),
        ("--profile", "officiall", "official"),
        ("--format", "jsn", "json"),
    ],
)
def test_unknown_name_is_usage(tmp_path: Path, option: str, came: str, nearest: str) -> None:
    said = bench("run", option, came, cwd=tmp_path)
    assert said.code == 2
    assert f"did you mean '{nearest}'" in one_line(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("check",), ("export", "mlperf")])
def test_a_bundle_that_is_not_there_is_usage(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Not a rule that was broken: nothing was looked at."""
    said = bench(*command, "nowhere", *(("out",) if command[0] == "export" else ()), cwd=tmp_path)
    assert said.code == 2
    assert "'nowhere' does not exist" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--track", "closed", "--transform", "prune:wanda=2:4 + awq"), "W-07"),
        (("--track", "closed", "--transform", "distill + awq"), "W-07"),
        (("--track", "open", "--workload", "assistant@300m", "--transform", "rtn"), "W-08"),
        (("--track", "open", "--transform", "prune:units=0.25"), "W-08"),
    ],
    ids=["closed", "student", "widened", "one-of-the-default-workloads-is-widened"],
)
def test_what_the_track_forbids_is_refused_before_any_work(
    tmp_path: Path, options: tuple[str, ...], rule: str
) -> None:
    said = bench("run", *options, cwd=tmp_path)
    assert said.code == 5
    assert f"[{rule}]" in one_line(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("transform", ["prune:wanda=1", "prune:wanda=3:4", "prune"])
def test_pruning_that_makes_no_sense_is_usage(tmp_path: Path, transform: str) -> None:
    options = ("--track", "open", "--workload", "assistant", "--transform", transform)
    said = bench("run", *options, cwd=tmp_path)
    assert said.code == 2
    assert "[prune] expected" in one_line(said)
    assert not list(tmp_path.iterdir())


def test_a_device_that_this_machine_is_not(tmp_path: Path) -> None:
    said = bench("run", "--device", "orin", cwd=tmp_path)
    if said.code == 0:
        pytest.skip("this machine is an Orin")
    assert said.code == 3
    assert "found" in one_line(said)


def _copied_workloads(tmp_path: Path) -> Path:
    """Copy the workload's files, so that a test may damage them."""
    root = tmp_path / "copy"
    shutil.copytree(ROOT / "workloads" / "edgebench_workloads" / "assistant", root / "assistant")
    return root


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1000)


@pytest.mark.parametrize(
    ("damage", "word"),
    [(_flip, "altered"), (_truncate, "truncated"), (Path.unlink, "missing")],
)
def test_damaged_weights_are_named(tmp_path: Path, damage: object, word: str) -> None:
    root = _copied_workloads(tmp_path)
    damage(root / "assistant" / "model" / "model.safetensors")  # type: ignore[operator]
    said = bench_with_workloads(root, *QUICKEST, cwd=tmp_path)
    assert said.code == 4
    line = one_line(said)
    assert "model.safetensors" in line
    assert "sha256" in line
    assert word in line


def test_unknown_key_in_a_task_file(tmp_path: Path) -> None:
    root = _copied_workloads(tmp_path)
    task = root / "assistant" / "task.toml"
    task.write_text("max_new_token = 3\n" + task.read_text())
    said = bench_with_workloads(root, *QUICKEST, cwd=tmp_path)
    assert said.code == 2
    assert "max_new_tokens" in one_line(said)


def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    said = bench(*QUICKEST, "--out", "file/below", cwd=tmp_path)
    assert said.code == 4
    assert "[storage]" in one_line(said)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_leaves_no_complete_bundle(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3100k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {mounted.stderr.strip()}")
    try:
        said = bench(*QUICKEST, "--out", "disk/submissions", cwd=tmp_path)
        assert said.code == 4
        assert "full disk" in one_line(said)
        for record in disk.rglob("record.json"):
            assert bench("check", record.parent, cwd=tmp_path).code == 5
            assert not (record.parent / "SHA256SUMS").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("isa", ["sclar", "neon2"])
def test_unknown_isa(tmp_path: Path, isa: str) -> None:
    said = bench(*QUICKEST, cwd=tmp_path, EDGEBENCH_ISA=isa)
    assert said.code == 2
    assert "EDGEBENCH_ISA" in one_line(said)
