"""The child process that reads jtop.service for the meter `jtop`: one JSON object a line.

A process of its own, because importing jetson-stats sets the interpreter's multiprocessing start
method to "fork", which CUDA does not survive; and because it is a program under another licence.

    {"interval_s": 1.0}                                  once connected
    {"t_ns": 81220951, "mW": {"VDD_IN": 5120, ...}}      a reading; the clock is time.monotonic_ns
    {"error": "Lost connection"}                         the last line, where it did not end well
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import time
from typing import Any

PATIENT_S = (1.0, 5.0)  # jtop's own default, and a service that is slower still


def emit(**what: object) -> None:
    """Write one line; the parent's end of the pipe being closed ends this process."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def powers(jetson: Any) -> dict[str, int]:
    """Return each rail's power now; never jtop's own total, which adds nested rails, nor `avg`."""
    rails = jetson.power["rail"]
    return {name: int(rail["power"]) for name, rail in rails.items() if rail.get("online", True)}


def interval_of(jtop: Any, wanted_s: float) -> float:
    """The service's interval: its first client sets it, and who asks for less times out."""
    for asked_s in (wanted_s, *PATIENT_S):
        try:
            with jtop.jtop(interval=asked_s) as jetson:
                return max(asked_s, float(jetson.interval))
        except queue.Empty:  # the service did not answer within three of our intervals
            continue
        except jtop.JtopException as err:
            if "Error connection" not in str(err):  # raised where no reading came in that time
                raise
    raise OSError("jtop.service does not answer")


def follow(jtop: Any, wanted_s: float) -> None:
    """Emit readings until the service ends; raises what the client raises."""
    interval_s = interval_of(jtop, wanted_s)
    with jtop.jtop(interval=interval_s) as jetson:
        emit(interval_s=interval_s)
        while jetson.ok():
            emit(t_ns=time.monotonic_ns(), mW=powers(jetson))
    emit(error="jtop.service sent nothing for three of its intervals")


def main(socket: str, wanted_s: float) -> None:
    """Read the service behind a socket until the parent goes away."""
    try:
        jtop: Any = importlib.import_module("jtop")
        service: Any = importlib.import_module("jtop.service")
        service.JTOP_PIPE = socket
    except ImportError as err:
        emit(error=f"jetson-stats cannot be imported: {err}")
        return
    try:
        follow(jtop, wanted_s)
    except BrokenPipeError:
        os._exit(0)  # nobody listens; the client's thread must not keep this process
    except (jtop.JtopException, OSError, EOFError, KeyError, ValueError, queue.Empty) as err:
        emit(error=" ".join(str(err).split()) or type(err).__name__)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
