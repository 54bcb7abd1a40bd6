"""One stage in a process of its own.

python -m edgebench_kernels.cuda.check.worker STAGE EVENTS WORK SECONDS
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench_kernels.cuda.check.events import Log
from edgebench_kernels.cuda.check.stages import PREPARE, STAGES

OUTSIDE = "stage"
"""The item that a stage's own failure is told as."""

ROOMS = {stage.name: stage.room for stage in (PREPARE, *STAGES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a stage is given. work: a folder that all stages share, for files of any kind."""

    work: Path
    until: float
    """On time.monotonic()'s clock; the process is ended a little later."""

    def left_s(self) -> float:
        """Until the stage's end."""
        return self.until - time.monotonic()


def main(arguments: Sequence[str]) -> None:
    """Run a stage of the table."""
    name, events, work, seconds = arguments
    request = Request(work=Path(work), until=time.monotonic() + float(seconds))
    log = Log(Path(events), is_gpu_alive)
    try:
        importlib.import_module(ROOMS[name]).run(log, request)
    except Exception as err:  # noqa: BLE001 (what fails outside of items is one, too)
        told = err
        log.item(OUTSIDE, lambda: _raise(told))


def _raise(error: Exception) -> None:
    raise error


def is_gpu_alive() -> bool:
    """Whether this process can still use the GPU, as far as it has used it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
