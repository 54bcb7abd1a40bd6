"""Repeating a record: its request in a fresh process, made of its fields and never its text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgebench.errors import RunFailed, SpecError
from edgebench.profiles import EXTERNAL
from edgebench.progress import Progress
from edgebench.record import Record

MEASURED = (0, 5)  # 5: measured, and the accuracy gate was missed
BUDGET = "24h"  # the record was measured, so it may be again


def repeat_words(record: Record, out: Path) -> list[str]:
    """Return the words after `bench` that ask for a record again; SpecError for an external engine.

    Each value is joined to its option, so that no text of a record can become one.
    """
    if record.external is not None:
        raise SpecError(
            "[reproduce] expected a run of our own kernels, got one of an external engine; start "
            "that server and give its address to `bench run --sut openai`"
        )
    candidate = next((own for own in record.results if own.kernel != "fp16"), None)
    if candidate is None or candidate.kernel == EXTERNAL:
        raise SpecError("[reproduce] expected a record of fp16 and int4, got one without int4")
    words = [
        "run",
        f"--track={record.track}",
        f"--device={record.host.device_requested}",
        f"--workload={record.workload.name}",
        f"--scenario={record.scenario}",
        f"--transform={candidate.transform}",
        f"--profile={record.profile}",
        f"--threads={record.host.threads}",
        f"--budget={BUDGET}",
        f"--out={out}",
        "--organisation=reproduced",
        "--format=json",
    ]
    if record.host.affinity is not None:
        words.append(f"--affinity={','.join(map(str, record.host.affinity))}")
    return words


def run_again(record: Record, out: Path, progress: Progress) -> Path:
    """Run a record's request again in a fresh process; return the folder that holds its bundle.

    RunFailed where it could not be measured; its words went to stderr.
    """
    words = repeat_words(record, out)
    progress.note(f"again: bench {' '.join(words)}")
    done = subprocess.run(
        [sys.executable, "-m", "edgebench", *words], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode not in MEASURED:
        raise RunFailed(
            f"[reproduce] expected the run to finish, got exit {done.returncode}; what it said "
            "stands above"
        )
    return out
