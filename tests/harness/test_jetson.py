"""A Jetson's state is read from its own files, and peaks follow from what its mode allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.jetson import GPU_CLOCKS, describe_jetson, power_modes
from edgebench.system import describe_system
from tests.harness.test_devices import AGX, jetson, put, server

MODES = """
# comment with ID=9 NAME=NOT_A_MODE
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MODE_30W >
"""


def clocks(root: Path, name: str, low: int, high: int) -> None:
    for file, value in (("cur_freq", high), ("min_freq", low), ("max_freq", high)):
        put(root, f"sys/class/devfreq/{name}/{file}", f"{value}\n")
    put(root, f"sys/class/devfreq/{name}/governor", "nvhost_podgov\n")


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    jetson(tmp_path, *AGX)
    put(tmp_path, "etc/nvpmodel.conf", MODES)
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n")
    put(tmp_path, "var/lib/nvfancontrol/status", "FAN1:FAN_PROFILE:quiet\nFAN1:ACTUAL_PWM:9\n")
    return tmp_path


def test_another_machine_is_none(tmp_path: Path) -> None:
    assert describe_jetson(server(tmp_path, "NVIDIA H200")) is None


def test_the_mode_has_the_boards_own_name(orin: Path) -> None:
    assert power_modes(orin) == {0: "MAXN", 2: "MODE_30W"}
    found = describe_jetson(orin)
    assert found is not None
    assert (found.power_mode_id, found.power_mode) == (2, "MODE_30W")
    assert found.fan_profile == "quiet"
    assert found.gpu_clock_max_MHz is None  # no devfreq folder in this tree


@pytest.mark.parametrize("name", GPU_CLOCKS)
def test_clocks_are_found_under_every_name(name: str, orin: Path) -> None:
    clocks(orin, name, 306_000_000, 612_000_000)
    found = describe_jetson(orin)
    assert found is not None
    assert (found.gpu_clock_min_MHz, found.gpu_clock_max_MHz) == (306.0, 612.0)
    assert found.clocks_locked is False
    clocks(orin, name, 612_000_000, 612_000_000)
    locked = describe_jetson(orin)
    assert locked is not None
    assert locked.clocks_locked is True


def test_a_mode_without_a_name_stays_a_number(orin: Path) -> None:
    put(orin, "var/lib/nvpmodel/status", "pmode:0007 fmode:quiet\n")
    found = describe_jetson(orin)
    assert found is not None
    assert (found.power_mode_id, found.power_mode) == (7, None)


def test_the_system_states_the_peaks_of_the_catalog_and_of_the_mode(orin: Path) -> None:
    clocks(orin, "17000000.gpu", 306_000_000, 612_000_000)
    catalog = describe_system(orin).catalog
    assert catalog is not None
    assert catalog.device == "orin"
    assert catalog.fp16_ops_per_s == pytest.approx(16 * 1.3e9 * 2048)
    assert catalog.allowed_fp16_ops_per_s == pytest.approx(16 * 0.612e9 * 2048)
    assert catalog.bandwidth_GBps == 204.8  # of the data sheet, not of the driver's bus width


def test_a_machine_outside_the_catalog_has_no_peaks(tmp_path: Path) -> None:
    assert describe_system(server(tmp_path, "NVIDIA Rare")).catalog is None
