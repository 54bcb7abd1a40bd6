"""jtop: a Jetson's rails as jetson-stats' service reads them, through a child process.

Only a second opinion beside INA3221 and INA238, which read the same chips: the service has to be
installed as root, its first client sets the rate for all, and it may stop without an error.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgebench import machine
from edgebench.meters import hwmon
from edgebench.meters.protocol import Domain, Probe, TimedReading
from edgebench.meters.rails import NO_TOTAL, total_of

SOCKET = "run/jtop.sock"
INTERVAL_S = 0.1
FIRST_READING_S = 15.0  # the client's own import, its two connections, three slow intervals
NO_SERVICE = "jtop.service is not active; sudo systemctl start jtop"
NO_PACKAGE = "jetson-stats is not installed; pip install 'edgebench[jetson]'"
CHILD = "edgebench.meters.jtop_child"


class JtopMeter:
    """Follows the service in a child process, which ends with this one."""

    name = "jtop"

    def __init__(self, root: Path = machine.ROOT, *, patience_s: float = FIRST_READING_S) -> None:
        self._socket = root / SOCKET
        self._patience_s = patience_s
        self._child: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def probe(self) -> Probe:
        """Start the child and wait for its first reading."""
        self.close()
        if not self._socket.exists():
            return self._refused(NO_SERVICE)
        if find_spec("jtop") is None:
            return self._refused(NO_PACKAGE)
        self._start()
        try:
            interval_s, rails = self._first_reading()
        except (queue.Empty, RuntimeError) as err:
            self.close()
            return self._refused(str(err) or f"no reading within {self._patience_s:g} s")
        total = total_of(rails)
        return Probe(
            meter=self.name,
            ok=total is not None,
            reason="" if total else NO_TOTAL + ", ".join(sorted(rails)),
            domains=tuple(
                Domain(
                    name=name,
                    covers=f"rail {name}",
                    kind="power",
                    unit="mW",
                    update_s=interval_s,
                    limit_W=hwmon.LIMIT_W,
                )
                for name in rails
            ),
            primary=total[0] if total else None,
            covers=total[1] if total else "",
        )

    def read(self) -> dict[str, float]:
        """Return the newest power of each rail in mW."""
        return {domain: value for _, domain, value in self.read_timed()}

    def read_timed(self) -> list[TimedReading]:
        """Return the readings since the last call; RuntimeError once the child has ended."""
        readings: list[TimedReading] = []
        while not self._lines.empty():
            line = self._lines.get()
            if "error" in line:
                raise RuntimeError(line["error"])
            for rail, power_mW in line.get("mW", {}).items():
                readings.append((int(line["t_ns"]), hwmon.rail_name(rail), float(power_mW)))
        return readings

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def __del__(self) -> None:
        """A meter that nobody keeps needs no child."""
        self.close()

    def _refused(self, reason: str) -> Probe:
        return Probe(meter=self.name, ok=False, reason=reason)

    def _start(self) -> None:
        self._lines = queue.SimpleQueue()
        self._child = subprocess.Popen(
            [sys.executable, "-m", CHILD, str(self._socket), str(INTERVAL_S)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        reader = threading.Thread(
            target=_collect, args=(self._child, self._lines), name="edgebench-jtop", daemon=True
        )
        reader.start()

    def _first_reading(self) -> tuple[float, list[str]]:
        interval_s = INTERVAL_S
        while True:
            line = self._lines.get(timeout=self._patience_s)
            if "error" in line:
                raise RuntimeError(line["error"])
            interval_s = float(line.get("interval_s", interval_s))
            if "mW" in line:
                return interval_s, [hwmon.rail_name(rail) for rail in line["mW"]]


def _collect(child: subprocess.Popen[str], lines: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Queue what a child says until it ends, and then that it did."""
    assert child.stdout is not None
    with child.stdout as said:
        for text in said:
            lines.put(json.loads(text))
    lines.put({"error": "the process that reads jtop.service ended"})
