"""The sampler: one thread that reads every working meter and appends to `power.csv`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from edgebench.errors import StorageError
from edgebench.meters import powercsv
from edgebench.meters.protocol import Domain, Meter, Probe, TimedMeter, TimedReading
from edgebench.ticker import Ticker

PERIOD_S = 0.1
SETTLE_S = 2.0  # how long a meter with times of its own may take to show the end of the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A meter with the outcome of its probe."""

    meter: Meter
    probe: Probe


class PowerLog:
    """Samples meters for as long as the block lasts.

    A first sample is taken on entry and a last one on exit, so windows inside the block are covered
    to their ends. Windows must come from the same clock: `time.monotonic_ns` (on Linux
    `time.perf_counter_ns` is the same clock). With no meter the file holds its header alone and no
    thread is started. A meter that fails is dropped and named in `failures`; the run stands.
    Raises StorageError on exit if the file could not be written.
    """

    def __init__(
        self,
        meters: Sequence[Probed],
        path: Path,
        period_s: float = PERIOD_S,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.failures: dict[str, str] = {}
        self._meters = [
            (item.meter, {domain.name: domain for domain in item.probe.domains})
            for item in meters
            if item.probe.ok
        ]
        self._path = path
        self._period_s = period_s
        self._clock_ns = clock_ns
        self._ticker = Ticker(self.sample, period_s, name="edgebench-power")
        self._file: IO[str] | None = None
        self._write_error: OSError | None = None
        self._newest_ns: dict[str, int] = {}

    def __enter__(self) -> PowerLog:
        try:
            fresh = not _keep_whole_lines(self._path)
            self._file = self._path.open("a", encoding="ascii", newline="\n")
        except OSError as err:
            raise StorageError(f"[{self._path}] expected a writable file, got {err}") from err
        self._write((powercsv.HEADER + "\n" if fresh else "") + self._declarations())
        self._forget_old()
        if self._meters:
            self.sample()
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._meters:
            self._ticker.stop()
            self.sample()
            self._settle(self._clock_ns())
        try:
            if self._file is not None:
                self._file.close()
        except OSError as err:
            self._write_error = self._write_error or err
        if self._write_error is not None and error is None:
            raise StorageError(
                f"[{self._path}] expected every sample to be written, got {self._write_error}; "
                "free some space and run again"
            ) from self._write_error

    def sample(self) -> None:
        """Read every meter once and append what came; the time stamp is the reading's middle."""
        if self._write_error is not None:
            return
        self._write(
            "".join(line for index in range(len(self._meters)) for line in self._read(index))
        )

    def _read(self, index: int) -> list[str]:
        """Return the lines that one meter has now; a meter that fails is not asked again."""
        meter, domains = self._meters[index]
        if meter.name in self.failures:
            return []
        before_ns = self._clock_ns()
        try:
            if isinstance(meter, TimedMeter):
                timed = meter.read_timed()
                self._newest_ns[meter.name] = max(
                    [self._newest_ns.get(meter.name, 0), *(t_ns for t_ns, _, _ in timed)]
                )
                return _rows(meter.name, domains, timed)
            values = meter.read()
        except (OSError, ValueError, RuntimeError) as err:
            self.failures[meter.name] = f"{type(err).__name__}: {err}"
            return []
        t_ns = (before_ns + self._clock_ns()) // 2
        return _rows(meter.name, domains, [(t_ns, name, v) for name, v in values.items()])

    def _forget_old(self) -> None:
        """Let go of what timed meters gathered before this log began."""
        for index in range(len(self._meters)):
            if isinstance(self._meters[index][0], TimedMeter):
                self._read(index)

    def _settle(self, end_ns: int) -> None:
        """Wait a little until late readings cover the end of the run."""
        deadline = time.monotonic() + SETTLE_S
        for index, (meter, _) in enumerate(self._meters):
            while (
                isinstance(meter, TimedMeter)
                and meter.name not in self.failures
                and self._newest_ns.get(meter.name, 0) < end_ns
                and time.monotonic() < deadline
            ):
                time.sleep(self._period_s / 10)
                self._write("".join(self._read(index)))

    def _declarations(self) -> str:
        now_ns = self._clock_ns()
        return "".join(
            powercsv.declaration(now_ns, meter.name, domain, self._period_s)
            for meter, domains in self._meters
            for domain in domains.values()
        )

    def _write(self, text: str) -> None:
        """Append and flush, so that what was sampled survives a crash; keep the first error."""
        if self._file is None or self._write_error is not None or not text:
            return
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as err:
            self._write_error = err


def _keep_whole_lines(path: Path) -> bool:
    """Cut off a line that a killed run left torn; return whether any line is left."""
    if not path.is_file():
        return False
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole != path.stat().st_size:
        os.truncate(path, whole)
    return whole > 0


def _rows(meter: str, domains: dict[str, Domain], readings: Sequence[TimedReading]) -> list[str]:
    known = ((t, domains[name], value) for t, name, value in readings if name in domains)
    return [powercsv.reading(t, meter, domain, value) for t, domain, value in known]
