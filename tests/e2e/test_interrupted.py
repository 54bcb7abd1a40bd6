"""Ctrl-C keeps what was measured, and --resume goes on without measuring it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgebench.lock import MachineLock
from tests.e2e.conftest import bench

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native]

RUN = ("run", "--workload", "assistant", "--scenario", "offline", "--budget", "30")
PATIENCE_S = 300


def _heed_ctrl_c() -> None:
    """A shell starts its background jobs with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _counted_bytes(progress: Path) -> int:
    """Bytes of samples.jsonl that a resumed run goes on from: a block counts once this says so."""
    return int(json.loads(progress.read_text())["samples"])


def _start_and_interrupt(folder: Path) -> tuple[int, float, str]:
    """Interrupt a run once its first block counts; returns (exit code, seconds, stderr)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebench", *RUN],
        cwd=folder,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not any(map(_counted_bytes, folder.glob("submissions/**/progress.json"))):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no block was finished in time"
        time.sleep(0.05)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - begin, err


def test_interrupt_then_resume(tmp_path: Path) -> None:
    code, seconds, err = _start_and_interrupt(tmp_path)
    assert code == 130, err
    assert seconds < 10  # within a second on a machine that has nothing else to do
    assert "--resume" in err
    (record_path,) = tmp_path.glob("submissions/*/*/*/*/*/*/record.json")
    bundle = record_path.parent
    assert json.loads(record_path.read_text())["complete"] is False
    counted = _counted_bytes(bundle / "progress.json")
    kept = (bundle / "samples.jsonl").read_bytes()[:counted]
    tuned = json.loads(record_path.read_text())["host"]["kernel_tuning"]
    refused = bench("check", bundle, cwd=tmp_path)
    assert refused.code == 5
    assert "S-05" in refused.out  # a finished run is expected

    with MachineLock():  # stands for another run on this machine
        resumed = bench(*RUN, "--resume", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    record = json.loads(record_path.read_text())
    assert record["complete"] is True
    assert record["host"]["other_runs_seen"] is True
    assert record["host"]["kernel_tuning"] == tuned
    assert (bundle / "samples.jsonl").read_bytes().startswith(kept)
    assert len(list(tmp_path.glob("submissions/*/*/*/*/*/*"))) == 1
    checked = bench("check", bundle, cwd=tmp_path)
    assert checked.code == 0, checked.out + checked.err

    again = bench(*RUN, "--resume", cwd=tmp_path)
    assert again.code == 0
    assert "finished before" in again.err
