"""The sampler: one thread, an append-only file, samples on both ends, failures that stay local."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edgebench.errors import StorageError
from edgebench.meters import powercsv
from edgebench.meters.integrate import Source, integrate
from edgebench.meters.protocol import Domain, Probe
from edgebench.meters.sampler import PERIOD_S, PowerLog, Probed

BOARD = Domain(
    name="board",
    covers="board",
    kind="counter",
    unit="uJ",
    update_s=0.001,
    range=10**15,  # so wide that no gap under load could hide two wraps
    limit_W=1e6,
)


class FakeMeter:
    """A counter that moves by one joule with every reading, until `dies_after` readings."""

    def __init__(self, name: str = "fake", dies_after: int | None = None) -> None:
        self.name = name
        self.reads = 0
        self.read_often = threading.Event()
        self._dies_after = dies_after

    def probe(self) -> Probe:
        return Probe(meter=self.name, ok=True, reason="", domains=(BOARD,), primary="board")

    def read(self) -> dict[str, float]:
        self.reads += 1
        if self.reads >= 5:
            self.read_often.set()
        if self._dies_after is not None and self.reads > self._dies_after:
            raise RuntimeError("lost connection")
        return {"board": 1_000_000 * self.reads, "unknown domain": 5}


def probed(*meters: FakeMeter) -> list[Probed]:
    return [Probed(meter=meter, probe=meter.probe()) for meter in meters]


def test_the_default_rate_is_ten_per_second() -> None:
    assert PERIOD_S == 0.1


def test_without_a_meter_there_is_a_header_and_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with PowerLog([], tmp_path / "power.csv"):
        assert threading.active_count() == before
    assert (tmp_path / "power.csv").read_text() == powercsv.HEADER + "\n"


def test_a_meter_whose_probe_failed_is_not_sampled(tmp_path: Path) -> None:
    meter = FakeMeter()
    failed = Probed(meter=meter, probe=Probe(meter="fake", ok=False, reason="x"))
    with PowerLog([failed], tmp_path / "power.csv"):
        pass
    assert meter.reads == 0


def test_there_is_a_sample_on_both_ends(tmp_path: Path) -> None:
    meter = FakeMeter()
    path = tmp_path / "power.csv"
    with PowerLog(probed(meter), path, period_s=60.0):
        started_ns = time.monotonic_ns()
        ended_ns = time.monotonic_ns()
    assert meter.reads == 2
    series = powercsv.load(path)["fake", "board"]
    assert series.t_ns[0] <= started_ns <= ended_ns <= series.t_ns[1]
    assert (series.range, series.limit_W, series.period_s) == (10**15, 1e6, 60.0)
    assert set(powercsv.load(path)) == {("fake", "board")}


def test_the_thread_samples_and_ends_with_the_block(tmp_path: Path) -> None:
    meter = FakeMeter()
    path = tmp_path / "power.csv"
    with PowerLog(probed(meter), path, period_s=0.001):
        assert meter.read_often.wait(10)
    assert not any(thread.name == "edgebench-power" for thread in threading.enumerate())
    series = powercsv.load(path)["fake", "board"]
    assert len(series.t_ns) == meter.reads
    assert series.t_ns == sorted(series.t_ns)
    energy = integrate(
        path, [(series.t_ns[0], series.t_ns[-1])], source=Source(meter="fake", domain="board")
    )
    assert energy.joules == pytest.approx(meter.reads - 1)


def test_the_file_is_flushed_with_every_sample(tmp_path: Path) -> None:
    meter = FakeMeter()
    path = tmp_path / "power.csv"
    with PowerLog(probed(meter), path, period_s=60.0):
        assert len(powercsv.load(path)["fake", "board"].t_ns) == 1


def test_a_second_log_appends(tmp_path: Path) -> None:
    meter = FakeMeter()
    for _ in range(2):
        with PowerLog(probed(meter), tmp_path / "power.csv", period_s=60.0):
            pass
    assert len(powercsv.load(tmp_path / "power.csv")["fake", "board"].t_ns) == 4


def test_a_line_torn_by_a_killed_run_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text(f"{powercsv.HEADER}\n5,fake,board,counter,7,uJ\n6,fake,bo")
    with PowerLog(probed(FakeMeter()), path, period_s=60.0):
        pass
    assert powercsv.load(path)["fake", "board"].values[:2] == [7, 1_000_000]
    path.write_text(powercsv.HEADER[:9])
    with PowerLog([], path):
        pass
    assert path.read_text() == powercsv.HEADER + "\n"


def test_a_meter_that_dies_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    dying, living = FakeMeter("dying", dies_after=2), FakeMeter("living")
    path = tmp_path / "power.csv"
    with PowerLog(probed(dying, living), path, period_s=0.001) as log:
        assert living.read_often.wait(10)
    assert log.failures == {"dying": "RuntimeError: lost connection"}
    found = powercsv.load(path)
    assert len(found["dying", "board"].t_ns) == 2
    assert len(found["living", "board"].t_ns) == living.reads
    assert dying.reads == 3  # and is not asked again


def test_a_meter_that_died_early_leaves_no_joules(tmp_path: Path) -> None:
    now_s = 0.0
    meter = FakeMeter(dies_after=10)
    path = tmp_path / "power.csv"
    log = PowerLog(probed(meter), path, clock_ns=lambda: int(now_s * 1e9))
    log._file = path.open("w")
    log._write(powercsv.HEADER + "\n" + log._declarations())
    for tick in range(100):
        now_s = tick / 10
        log.sample()
    log._file.close()
    energy = integrate(path, [(0, 9_900_000_000)], source=Source(meter="fake", domain="board"))
    assert (energy.status, energy.joules) == ("partial", None)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="writable"), PowerLog([], tmp_path / "no" / "p.csv"):
        pytest.fail("the block must not start")


def test_a_full_disk_is_told_at_the_end(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(StorageError, match="free some space"), PowerLog([], full):
        pass


def test_a_full_disk_does_not_hide_the_blocks_own_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(KeyboardInterrupt), PowerLog([], Path("/dev/full")):
        raise KeyboardInterrupt
