"""Watching a run: what is summed up, what is drawn, and how cold and sustained rates differ."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgebench.condition_log import MAX_POINTS, ConditionLog, timeline
from edgebench.conditions import Snapshot, Watch
from edgebench.conditions_verdict import judge
from edgebench.record import Conditions, SampleRow
from edgebench.sustained import sustained_rates
from edgebench.system import describe_system
from tests.harness.trees import board, put

S = 1_000_000_000


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def watched(root: Path, steps: Sequence[dict[str, object]]) -> Conditions:
    """Watch a tree whose files change, one second at a time, without the thread's help."""
    clock = Clock()
    log = ConditionLog(Watch(root), 3600.0, clock_s=clock)
    with log:
        for files in steps:
            clock.now_s += 1.0
            for path, value in files.items():
                put(root, path, value)
            log.take()
    return log.summary(describe_system(root), load_before=0.2, covers_part=False)


COOLING = "sys/class/thermal/cooling_device0/cur_state"
CLOCK = "sys/class/devfreq/17000000.gpu/cur_freq"


def test_a_quiet_board_is_held_back_by_nothing(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    seen = watched(tmp_path, [{}, {}, {}])
    assert (seen.readings, seen.held_back, seen.first_held_back_s) == (5, {}, None)
    assert seen.sees_throttling
    assert (seen.over_current_events, seen.cpu_throttle_events) == (0, None)
    assert (seen.power_mode, seen.power_mode_changed, seen.clocks_locked) == ("MAXN", False, True)
    assert (seen.hottest_start_C, seen.hottest_end_C) == (51.0, 51.0)
    assert seen.observed_fp16_ops_per_s == pytest.approx(16 * 1.3005e9 * 2048)
    assert [point.at_s for point in seen.timeline] == [0, 1, 2, 3, 3]
    judgement = judge(seen, "closed")
    assert (judgement.invalid_reasons, judgement.warnings) == ((), ())


def test_a_board_that_heats_up_says_when_and_how_often(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    hot = {COOLING: 2, CLOCK: 612_000_000, "sys/class/thermal/thermal_zone1/temp": 97_000}
    seen = watched(tmp_path, [{}, hot, {}])
    assert seen.held_back == {"cooling 17000000.gpu": pytest.approx(3 / 5)}
    assert seen.first_held_back_s == 2.0
    assert (seen.hottest_start_C, seen.hottest_end_C) == (51.0, 97.0)
    assert seen.timeline[2].held_back_by == ["cooling 17000000.gpu"]
    assert seen.timeline[2].gpu_clock_MHz == 612.0
    closed, opened = judge(seen, "closed"), judge(seen, "open")
    assert closed.invalid_reasons == ("P-06: cooling 17000000.gpu in 60 % of the readings",)
    assert opened.invalid_reasons == ()
    assert opened.warnings[0].startswith("P-07: cooling")
    # Its median clock is under three quarters of what its power mode allows.
    assert "P-08: the GPU ran at 612 MHz in the median, of 1300 allowed" in closed.warnings


def test_over_currents_are_counted_from_the_runs_begin(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    counter = "sys/class/hwmon/hwmon1/oc3_event_cnt"
    put(tmp_path, counter, 27_000)
    seen = watched(tmp_path, [{counter: 27_390}])
    assert seen.over_current_events == 390
    assert "P-06: 390 over-current events" in judge(seen, "closed").invalid_reasons


def test_a_changed_power_mode_is_noticed(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    seen = watched(tmp_path, [{"var/lib/nvpmodel/status": "pmode:0001 fmode:quiet"}])
    assert seen.power_mode_changed
    assert judge(seen, "closed").invalid_reasons == ("P-06: the power mode was changed",)


def test_a_cpu_that_throttles_is_noticed(tmp_path: Path) -> None:
    for core, count in ((0, 4), (1, 5)):  # of one package, which both cores show
        put(tmp_path, f"sys/devices/system/cpu/cpu{core}/thermal_throttle/package_throttle_count",
            count)  # fmt: skip
    path = "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count"
    seen = watched(tmp_path, [{path: 7}])
    assert seen.cpu_throttle_events == 2
    assert judge(seen, "closed").invalid_reasons == ("P-06: the CPU throttled 2 times",)


def test_a_raspberry_pi_says_what_its_firmware_says(tmp_path: Path) -> None:
    path = "sys/devices/platform/soc/soc:firmware/get_throttled"
    put(tmp_path, path, "50000")  # since boot, and not now
    assert Watch(tmp_path).look().reasons == ()
    put(tmp_path, path, "50005")
    assert Watch(tmp_path).look().reasons == ("under-voltage", "throttled")
    assert judge(watched(tmp_path, [{}]), "closed").invalid_reasons


def test_what_nobody_shows_is_not_judged(tmp_path: Path) -> None:
    seen = watched(tmp_path, [{}])
    assert not seen.sees_throttling
    assert seen.over_current_events is None
    assert judge(seen, "closed").invalid_reasons == ()
    assert judge(None, "closed").warnings == ()


def test_a_long_run_is_drawn_in_few_points_that_keep_the_worst() -> None:
    clocks = (500.0 if i == 1001 else 1300.0 for i in range(1801))
    taken = [
        (i / 2, Snapshot(gpu_clock_MHz=clock, gpu_temperature_C=50.0 + i / 100))
        for i, clock in enumerate(clocks)
    ]
    points = timeline(taken)
    assert len(points) <= MAX_POINTS
    assert min(point.gpu_clock_MHz or 0 for point in points) == 500.0
    assert points[-1].hottest_C == pytest.approx(68.0)


def test_the_thread_watches_and_ends_with_the_block(tmp_path: Path) -> None:
    looked = threading.Event()

    class Eager(Watch):
        def look(self) -> Snapshot:
            if threading.current_thread().name == "edgebench-watch":
                looked.set()
            return Snapshot()

    with ConditionLog(Eager(tmp_path), 0.001):
        assert looked.wait(10)
    assert not any(thread.name == "edgebench-watch" for thread in threading.enumerate())


def rows(seconds: float, slow_after_s: float) -> list[SampleRow]:
    """Queries in blocks of two seconds, one of them ours: 0.1 s each, then 0.2 s."""
    found: list[SampleRow] = []
    start_s = 0.0
    while start_s < seconds:
        now_s = start_s
        while now_s < start_s + 2.0 - 1e-9:
            takes_s = 0.1 if now_s < slow_after_s else 0.2
            found.append(
                SampleRow(
                    kernel="int4",
                    mode="performance",
                    block=round(start_s / 4),
                    query=len(found),
                    sample=0,
                    issued_ns=round(now_s * S),
                    first_token_ns=round(now_s * S),
                    completed_ns=round((now_s + takes_s) * S),
                    output_ids=[1],
                )
            )
            now_s += takes_s
        start_s += 4.0
    return found


def test_cold_and_sustained_rates_are_told_apart() -> None:
    found = sustained_rates(rows(180.0, slow_after_s=60.0))
    assert found is not None
    assert found.cold_samples_per_s == pytest.approx(10.0)
    assert found.sustained_samples_per_s == pytest.approx(5.0)
    assert found.ratio == pytest.approx(0.5)


def test_a_short_run_has_neither() -> None:
    assert sustained_rates(rows(118.0, slow_after_s=60.0)) is None
    assert sustained_rates([]) is None
