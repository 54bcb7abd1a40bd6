"""An external meter's file: from now, by this machine's clock, whole lines; else it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.meters.csvfile import CsvMeter
from edgebench.meters.integrate import Source, integrate
from edgebench.meters.sampler import PowerLog, Probed
from edgebench.record import Energy

S = 1_000_000_000
EPOCH_S = 1_760_000_000


class Bench:
    """A logger that appends to a file, and the two clocks of the machine that reads it."""

    def __init__(self, folder: Path, offset_s: float = 0.0) -> None:
        self.path = folder / "wall.csv"
        self.path.write_text("epoch_s,watts\n")
        self.offset_s = offset_s
        self.now_s = 0.0
        self.set_s = 0.0
        """By how much the system clock was set since."""
        self.meter = CsvMeter(
            self.path,
            wall_ns=lambda: round((EPOCH_S + self.now_s + self.set_s) * S),
            monotonic_ns=lambda: round(self.now_s * S),
        )

    def log(self, watts: float) -> None:
        with self.path.open("a") as file:
            file.write(f"{EPOCH_S + self.now_s + self.offset_s:.3f},{watts}\n")

    def run(self, seconds: float, skipped: range = range(0)) -> PowerLog:
        """Probe after a second of readings, then sample for some time, ten lines a second."""
        for _ in range(10):
            self.now_s += 0.1
            self.log(40.0)
        probe = self.meter.probe()
        assert probe.ok, probe.reason
        path = self.path.with_name("power.csv")
        log = PowerLog(
            [Probed(meter=self.meter, probe=probe)],
            path,
            clock_ns=lambda: round(self.now_s * S),
        )
        log._file = path.open("w")
        log._write("t_ns,meter,domain,kind,value,unit\n" + log._declarations())
        for tick in range(round(10 * seconds)):
            self.now_s += 0.1
            if tick not in skipped:
                self.log(50.0)
            log.sample()
        log._file.close()
        return log

    def energy(self, start_s: float, end_s: float) -> Energy:
        window = (round(start_s * S), round(end_s * S))
        path = self.path.with_name("power.csv")
        return integrate(path, [window], source=Source(meter="csv", domain="external"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_lines_are_laid_on_the_monotonic_clock(bench: Bench) -> None:
    bench.run(5)
    energy = bench.energy(1.2, 5.8)
    assert energy.status == "measured"
    assert energy.joules == pytest.approx(50.0 * 4.6, rel=1e-3)


def test_a_gap_is_a_hole(bench: Bench) -> None:
    bench.run(5, skipped=range(10, 25))
    energy = bench.energy(1.2, 5.8)
    assert (energy.status, energy.joules) == ("partial", None)
    assert energy.mean_power_W == pytest.approx(50.0, rel=1e-3)


@pytest.mark.parametrize(
    ("offset_s", "text"), [(3.0, "3.0 s ahead of this machine's clock"), (-60.0, "60.0 s old")]
)
def test_another_clock_is_refused(offset_s: float, text: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, offset_s)
    for _ in range(10):
        bench.now_s += 0.1
        bench.log(40.0)
    probe = bench.meter.probe()
    assert not probe.ok
    assert text in probe.reason
    assert "append lines of epoch_s,watts" in probe.reason


def test_a_small_difference_of_clocks_is_tolerated(tmp_path: Path) -> None:
    Bench(tmp_path, 0.5).run(1)


def test_a_clock_that_is_set_in_the_run_ends_the_meter(bench: Bench) -> None:
    log = bench.run(1)
    bench.set_s = -3600.0
    bench.now_s += 0.1
    log._file = bench.path.with_name("power.csv").open("a")
    log.sample()
    log._file.close()
    assert "set by -3600.0 s" in log.failures["csv"]
    assert bench.energy(1.2, 8.0).status == "partial"


def test_a_logger_that_stops_ends_in_too_little_coverage(bench: Bench) -> None:
    log = bench.run(5, skipped=range(20, 50))
    assert not log.failures  # an old file is no error while nothing new comes
    assert bench.energy(1.2, 5.8).joules is None


@pytest.mark.parametrize("line", ["soon,50", "1760000001.0,nan", "1760000001.0", "1,2,3", "é,1"])
def test_a_line_that_is_no_reading_ends_the_meter(line: str, bench: Bench) -> None:
    log = bench.run(1)
    with bench.path.open("a") as file:
        file.write(line + "\n")
    log.sample()
    assert "expected epoch_s,watts" in log.failures["csv"]


def test_a_torn_last_line_waits_for_its_end(bench: Bench) -> None:
    bench.run(1)
    with bench.path.open("a") as file:
        file.write(f"{EPOCH_S + bench.now_s:.3f},4")
    assert bench.meter.read_timed() == []
    with bench.path.open("a") as file:
        file.write("2.5\n")
    assert bench.meter.read() == {"external": 42.5}


def test_a_long_file_is_read_from_its_tail(bench: Bench) -> None:
    bench.now_s = 10_000.0
    lines = (f"{EPOCH_S + i / 10:.1f},40\n" for i in range(100_001))
    bench.path.write_text("epoch_s,watts\n" + "".join(lines))
    probe = bench.meter.probe()
    assert probe.ok, probe.reason
    assert probe.domains[0].update_s == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("text", ["", "epoch_s,watts\n", "epoch_s,watts\n1760000000,4\n", "a\nb\n"])
def test_a_file_without_readings_is_refused(text: str, bench: Bench) -> None:
    bench.path.write_text(text)
    assert not bench.meter.probe().ok


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    probe = CsvMeter(tmp_path / "no.csv").probe()
    assert not probe.ok
    assert "No such file" in probe.reason
