"""A Jetson's rails: what is added, what is not, and what is said where there is no total."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.meters.ina238 import Ina238Meter
from edgebench.meters.ina3221 import Ina3221Meter
from edgebench.meters.integrate import Source, integrate
from edgebench.meters.rails import TOTALS, total_of
from edgebench.meters.sampler import PowerLog, Probed
from edgebench.record import Energy
from tests.harness.trees import (
    AGX_RAILS,
    NX_RAILS,
    RAILS,
    Rails,
    Tree,
    board,
    ina238,
    ina3221,
    ina3221x,
    put,
)

S = 1_000_000_000


def measured(tree: Tree, meter: Ina3221Meter | Ina238Meter, seconds: int = 2) -> Energy:
    """Sample a tree ten times a second by a clock of its own; the whole time is the window."""
    probe = meter.probe()
    assert probe.primary is not None, probe.reason
    now_ns = [0]
    path = tree.root / "power.csv"
    log = PowerLog([Probed(meter=meter, probe=probe)], path, 60.0, clock_ns=lambda: now_ns[0])
    with log:
        for tick in range(1, 10 * seconds + 1):
            now_ns[0] = tick * S // 10
            log.sample()
    return integrate(
        path, [(0, seconds * S)], source=Source(meter=meter.name, domain=probe.primary)
    )


def slow_period(path: Path) -> None:
    """Say that the sampler's period was a tenth of a second, as the clock above had it."""
    path.write_text(path.read_text().replace("period,60.0,s", "period,0.1,s"))


def test_the_agx_total_is_three_rails_and_never_the_nested_fourth(tmp_path: Path) -> None:
    energy = measured(board(tmp_path, "orin"), Ina3221Meter(tmp_path))
    assert energy.domain == "VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0"
    assert energy.mean_power_W == pytest.approx(17.21)
    assert energy.joules == pytest.approx(2 * 17.21)
    four = sum(mV * mA for mV, mA in AGX_RAILS.values()) / 1e6
    assert four == pytest.approx(18.41)  # what adding all four would claim


def test_all_rails_are_recorded_beside_the_total(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    meter = Ina3221Meter(tmp_path)
    assert {domain.name for domain in meter.probe().domains} == set(AGX_RAILS)
    assert meter.read()["VDDQ_VDD2_1V8AO"] == pytest.approx(1200.0)


@pytest.mark.parametrize("name", ["orin-nx", "orin-nano"])
def test_nx_and_nano_are_measured_at_their_input(name: str, tmp_path: Path) -> None:
    energy = measured(board(tmp_path, name), Ina3221Meter(tmp_path))
    assert energy.domain == "VDD_IN"
    assert energy.mean_power_W == pytest.approx(7.6)  # and not the rails inside of it on top


def test_thor_is_measured_at_its_boards_input(tmp_path: Path) -> None:
    tree = board(tmp_path, "thor")
    energy = measured(tree, Ina238Meter(tmp_path))
    assert (energy.domain, energy.mean_power_W) == ("VIN", pytest.approx(41.5))
    assert not Ina3221Meter(tmp_path).probe().ok
    ina238(tmp_path, 1_000_000, address="2-0045")
    assert "2 INA238 chips" in Ina238Meter(tmp_path).probe().reason


def test_an_unknown_set_of_rails_has_no_total(tmp_path: Path) -> None:
    board(tmp_path, "unknown")
    probe = Ina3221Meter(tmp_path).probe()
    assert (probe.ok, probe.primary) == (False, None)
    assert probe.reason == "no known way to total the rails VDD_NEW"
    assert [domain.name for domain in probe.domains] == ["VDD_NEW"]


def test_the_table_of_totals_never_adds_what_is_nested() -> None:
    for name, rails in RAILS.items():
        total = total_of(rails)
        assert (total is None) == (name in ("unknown", "thor"))
    assert all("VDDQ_VDD2_1V8AO" not in parts for parts in TOTALS)
    assert total_of({"VDD_GPU_SOC", "VDD_CPU_CV"}) is None  # a total with a rail missing is none


def test_a_rail_that_does_not_answer_leaves_no_total(tmp_path: Path) -> None:
    tree = board(tmp_path, "orin")
    next(p for p in tree.labels() if "CPU" in p.read_text()).with_name("curr2_input").unlink()
    probe = Ina3221Meter(tmp_path).probe()
    assert probe.primary is None
    assert "VDD_CPU_CV: FileNotFoundError on curr2_input" in probe.reason
    assert "no known way" in probe.reason


@pytest.mark.parametrize(
    ("rails", "total", "watts"),
    [
        (NX_RAILS, "VDD_IN", 7.6),  # a Xavier NX names them as an Orin NX does
        ({"POM_5V_IN": (5_000, 800), "POM_5V_GPU": (5_000, 300), "NC": (1, 1)}, "POM_5V_IN", 4.0),
    ],
)
def test_jetpack_4_shows_its_rails_through_another_driver(
    rails: Rails, total: str, watts: float, tmp_path: Path
) -> None:
    ina3221x(tmp_path, "6-0040", 0, rails)
    energy = measured(Tree(tmp_path), Ina3221Meter(tmp_path))
    assert (energy.domain, energy.mean_power_W) == (total, pytest.approx(watts))
    read = Ina3221Meter(tmp_path)
    assert {domain.name for domain in read.probe().domains} == set(rails) - {"NC"}


def test_jetpack_4_on_an_agx_xavier_shows_rails_and_no_total(tmp_path: Path) -> None:
    ina3221x(tmp_path, "1-0040", 0, dict.fromkeys(("GPU", "CPU", "SOC"), (5000, 100)))
    ina3221x(tmp_path, "1-0041", 1, dict.fromkeys(("CV", "VDDRQ", "SYS5V"), (5000, 100)))
    probe = Ina3221Meter(tmp_path).probe()
    assert (probe.ok, probe.primary) == (False, None)
    assert probe.reason == "no known way to total the rails CPU, CV, GPU, SOC, SYS5V, VDDRQ"


def test_a_slow_poll_of_jetpack_4_is_declared(tmp_path: Path) -> None:
    ina3221x(tmp_path, "6-0040", 0, NX_RAILS)
    put(tmp_path, "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/polling_delay_1", "250 ms")
    assert {domain.update_s for domain in Ina3221Meter(tmp_path).probe().domains} == {0.25}


def test_channels_that_are_not_connected_are_passed_over(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", 7, {"VDD_IN": (5_000, 1_000), "NC": (1, 1), "": (1, 1)})
    meter = Ina3221Meter(tmp_path)
    assert meter.probe().primary == "VDD_IN"
    assert meter.read() == {"VDD_IN": 5_000.0}


def test_other_chips_are_not_read(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", 3, {"VDD_IN": (5_000, 1_000)})
    put(tmp_path, "sys/bus/i2c/devices/1-0040/name", "tmp451")
    assert Ina3221Meter(tmp_path).probe().reason == "no INA3221 power chip on the I2C bus"
    assert Ina238Meter(tmp_path).probe().reason == "no INA238 power chip on the I2C bus"


def test_the_chips_own_update_is_declared(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    assert {domain.update_s for domain in Ina3221Meter(tmp_path).probe().domains} == {0.018}


def test_a_rail_that_vanishes_in_the_run_leaves_no_joules(tmp_path: Path) -> None:
    tree = board(tmp_path, "orin")
    meter = Ina3221Meter(tmp_path)
    probe = meter.probe()
    now_ns = [0]
    path = tmp_path / "power.csv"
    with PowerLog(
        [Probed(meter=meter, probe=probe)], path, 60.0, clock_ns=lambda: now_ns[0]
    ) as log:
        for tick in range(1, 41):
            now_ns[0] = tick * S // 10
            if tick == 20:
                tree.labels()[0].with_name("curr1_input").unlink()
            log.sample()
    slow_period(path)
    energy = integrate(path, [(0, 4 * S)], source=Source(meter="ina3221", domain=probe.primary))
    assert (energy.status, energy.joules) == ("partial", None)
    assert energy.coverage == pytest.approx(0.475)


def test_an_absurd_reading_is_no_reading(tmp_path: Path) -> None:
    tree = board(tmp_path, "orin-nx")
    meter = Ina3221Meter(tmp_path)
    probe = meter.probe()
    now_ns = [0]
    path = tmp_path / "power.csv"
    with PowerLog(
        [Probed(meter=meter, probe=probe)], path, 60.0, clock_ns=lambda: now_ns[0]
    ) as log:
        for tick in range(1, 41):
            now_ns[0] = tick * S // 10
            tree.rail("VDD_IN", {20: 900_000, 30: -5_000}.get(tick, 400))
            log.sample()
    slow_period(path)
    energy = integrate(path, [(0, 4 * S)], source=Source(meter="ina3221", domain="VDD_IN"))
    assert energy.mean_power_W == pytest.approx(7.6)
