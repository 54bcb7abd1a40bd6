"""The doctor says what is there, what is missing and what fixes it, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgebench import doctor
from edgebench.conditions import CAP_NAME, Watch
from edgebench.doctor import Probe, doctor_command, examine, exit_code
from edgebench.errors import SpecError
from edgebench.machine import ROOT_VARIABLE
from tests.harness.trees import board, put


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled kernels are other tests' matter."""
    monkeypatch.setattr(doctor, "_kernels", lambda: [Probe(what="kernels", state="ok", found="x")])


def states(probes: list[Probe]) -> dict[str, str]:
    return {probe.what: probe.state for probe in probes}


def found(probes: list[Probe], what: str) -> Probe:
    return next(probe for probe in probes if probe.what == what)


def test_a_board_in_order_is_ready(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    probes = examine("orin", tmp_path)
    assert exit_code(probes) == 0
    assert found(probes, "meter ina3221").found.startswith(
        "reported: VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0 (module, without its carrier board)"
    )
    assert found(probes, "power mode").found == "MAXN"
    assert "204.8 GB/s" in found(probes, "catalog").found or "205 GB/s" in (
        found(probes, "catalog").found
    )
    assert states(probes)["governor"] == "ok"
    assert "energy" not in states(probes)


def test_another_device_is_not_ready(tmp_path: Path) -> None:
    board(tmp_path, "orin-nx")
    probes = examine("orin", tmp_path)
    assert exit_code(probes) == 3
    assert "use --device orin-nx" in found(probes, "device").found


@pytest.mark.parametrize(
    ("path", "value", "what", "state"),
    [
        ("sys/class/thermal/cooling_device0/cur_state", 2, "throttling", "not ready"),
        ("var/lib/nvpmodel/status", "pmode:0009", "power mode", "not ready"),
        ("sys/class/devfreq/17000000.gpu/min_freq", 306_000_000, "clocks", "warning"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand", "governor", "warning"),
        ("proc/loadavg", "9.50 1.0 1.0 2/300 1", "load", "warning"),
        ("proc/meminfo", "SwapTotal: 900 kB\nSwapFree: 100 kB", "swap", "warning"),
        ("proc/meminfo", "MemTotal: 900000 kB\nMemAvailable: 1000 kB", "memory", "warning"),
        (".dockerenv", "", "virtualised", "warning"),
    ],
)
def test_what_is_wrong_is_named(
    path: str, value: object, what: str, state: str, tmp_path: Path
) -> None:
    board(tmp_path, "orin")
    put(tmp_path, path, value)
    probes = examine("orin", tmp_path)
    assert states(probes)[what] == state
    assert exit_code(probes) == (3 if state == "not ready" else 0)


def test_a_machine_without_a_meter_says_what_is_missing(tmp_path: Path) -> None:
    board(tmp_path, "unknown")
    probes = examine("cpu", tmp_path)
    assert states(probes)["energy"] == "warning"
    assert "no known way to total" in found(probes, "meter ina3221").found
    assert "--meter csv:FILE" in found(probes, "energy").fix


def test_a_pc_is_not_warned_of_the_meters_of_a_jetson(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "model name : AMD EPYC")
    probes = examine("cpu", tmp_path)
    came = states(probes)
    assert {came[f"meter {name}"] for name in ("ina238", "ina3221", "jtop")} == {"absent"}
    assert (came["meter rapl"], came["energy"]) == ("warning", "warning")


def test_the_command_speaks_words_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board(tmp_path, "orin")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    text, code = doctor_command("orin", "md")
    assert code == 0
    assert text.endswith("ready for the closed track")
    assert "SIMULATED" in text  # a tree of files is never taken for a machine
    data, _ = doctor_command("orin", "json")
    assert {"what", "state", "found", "fix"} == set(json.loads(data)[0])
    put(tmp_path, "sys/class/thermal/cooling_device0/cur_state", 1)
    text, code = doctor_command("orin", "md")
    assert code == 3
    assert text.endswith("not ready for the closed track: throttling")
    with pytest.raises(SpecError, match="format"):
        doctor_command("orin", "xml")
    with pytest.raises(SpecError, match="did you mean"):
        doctor_command("orinn", "md")


class Nvml:
    """An NVML that answers three calls."""

    NVMLError = RuntimeError

    def __init__(self, bits: int, *, is_old: bool = False) -> None:
        self.bits, self.is_old = bits, is_old

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        if self.is_old:
            raise RuntimeError("Function Not Found")
        return self.bits

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return self.bits

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        return 1980

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 61

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[object]:
        raise RuntimeError("Not Supported")


@pytest.mark.parametrize("is_old", [False, True])
def test_throttle_reasons_have_names(is_old: bool, tmp_path: Path) -> None:
    snapshot = Watch(tmp_path, nvml=Nvml(0x40 | 0x04 | 0x01, is_old=is_old)).look()
    assert snapshot.reasons == ("HW thermal slowdown", CAP_NAME)
    assert (snapshot.gpu_clock_MHz, snapshot.hottest_C) == (1980, 61)
    assert snapshot.foreign_processes is None  # nobody tells, so it is not 0


def test_a_jetson_is_watched_through_its_files(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    put(tmp_path, "sys/class/hwmon/hwmon1/oc3_event_cnt", 27)
    put(tmp_path, "sys/class/thermal/thermal_zone9/type", "cv0-thermal")
    put(tmp_path, "sys/class/thermal/thermal_zone9/temp", -256_000)  # a sensor that is off
    now = Watch(tmp_path).look()
    assert now.temperatures_C == {"gpu-thermal": 48.0, "tj-thermal": 51.0}
    assert now.hottest_C == 51.0
    assert (now.over_currents, now.gpu_clock_MHz, now.cooling) == (27, 1300.5, ())
    assert (now.governor, now.power_mode, now.reasons) == ("performance", "0000", None)
    assert now.cpu_clock_MHz == pytest.approx(2201.6)


def test_a_machine_that_shows_nothing_is_all_none(tmp_path: Path) -> None:
    now = Watch(tmp_path).look()
    assert (now.reasons, now.over_currents, now.load, now.hottest_C) == (None, None, None, None)
