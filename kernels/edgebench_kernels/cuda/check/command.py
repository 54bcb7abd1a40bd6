"""The check as a command: from its options to its files, its text and its exit code."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from edgebench_kernels.cuda.check import events, stages, summary
from edgebench_kernels.cuda.check.supervisor import (
    ROOT,
    Check,
    Outcome,
    remove,
    work_folder,
)

OK, FAILED, NO_GPU = 0, 1, 3
BUNDLES = "submissions"
"""The folder in the stages' own where `bench run` leaves bundles."""


def run(out: Path, seconds: float, names: str | None) -> int:
    """Check, and return the exit code; ValueError for an unknown stage."""
    chosen = stages.chosen(names)
    began = time.monotonic()
    work = work_folder()
    folder = summary.Folder(out, facts(seconds, chosen))
    signal.signal(signal.SIGTERM, _leave)

    def publish(outcomes: Sequence[Outcome]) -> None:
        if outcomes and outcomes[-1].stage.name == "bench":
            folder.bundles_left_out.clear()
            folder.keep_bundles(work / BUNDLES)
        folder.publish(outcomes)

    check = Check(stages=chosen, work=work, budget_s=seconds, publish=publish)
    try:
        check.run()
    finally:
        remove(work)
    print(summary.head(json.loads((out / summary.JSON).read_text(encoding="utf-8"))))
    print(f"{time.monotonic() - began:.0f} s, {out / summary.MARKDOWN}")
    return exit_code(check.outcomes)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Of a finished check."""
    for outcome in outcomes:
        if "no GPU to check" in outcome.text:
            print(f"gpu_check: {outcome.text}")
            return NO_GPU
    bad = (events.FAILED, events.INCOMPLETE)
    return FAILED if any(outcome.status in bad for outcome in outcomes) else OK


def facts(seconds: float, chosen: Sequence[stages.Stage]) -> dict[str, Any]:
    """What a reader must know of this run."""
    return {
        "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": seconds,
        "stages_asked": ",".join(stage.name for stage in chosen),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": _git("status", "--porcelain", "--untracked-files=no"),
        "kernels_sha256": kernels_sha256(),
    }


def kernels_sha256() -> str:
    """Of all that the GPU kernels are made from: what was measured, where there is no git."""
    digest = hashlib.sha256()
    for folder in ("csrc/cuda", "csrc", "edgebench_kernels/cuda"):
        for path in sorted((ROOT / "kernels" / folder).glob("*.*")):
            if path.is_file():
                digest.update(f"{folder}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
