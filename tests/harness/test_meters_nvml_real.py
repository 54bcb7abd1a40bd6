"""The real nvidia-ml-py on a stand-in driver: every way in which NVML misleads a meter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgebench import meters
from edgebench.conditions import Watch
from edgebench.devices import ResolvedDevice
from edgebench.gpus import describe_gpus
from edgebench.meters.integrate import Source, integrate
from edgebench.meters.nvml import NvmlMeter
from edgebench.meters.request import MeterRequest
from edgebench.meters.sampler import PowerLog, Probed
from edgebench.record import Energy
from tests.harness import nvml_driver
from tests.harness.nvml_driver import FUNCTION_NOT_FOUND, JETSON, MODULE, NOT_SUPPORTED, Driver

try:
    import pynvml
except ImportError:
    pynvml = None
pytestmark = [
    pytest.mark.meters,
    pytest.mark.skipif(pynvml is None, reason="needs nvidia-ml-py: pip install 'edgebench[test]'"),
]
S = 1_000_000_000


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return nvml_driver.build(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as err:
        pytest.skip(f"needs {err}")


@pytest.fixture
def driver(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    nvml_driver.load(pynvml, library, monkeypatch)
    monkeypatch.setenv("FAKE_NVML", str(tmp_path / "driver"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Driver(tmp_path / "driver")


def run(driver: Driver, steps: list[dict[str, Any]], domain: str | None = None) -> Energy:
    """Sample ten times a second by a clock of its own, the driver's answers changing each time."""
    meter = NvmlMeter()
    probe = meter.probe()
    assert probe.ok, probe.reason
    path = driver.path.with_name("power.csv")
    now_ns = [0]
    log = PowerLog([Probed(meter=meter, probe=probe)], path, clock_ns=lambda: now_ns[0])
    log._file = path.open("w")
    log._write("t_ns,meter,domain,kind,value,unit\n" + log._declarations())
    for tick, answers in enumerate(steps):
        now_ns[0] = tick * S // 10
        driver.set(**answers)
        log.sample()
    log._file.close()
    window = (0, (len(steps) - 1) * S // 10)
    return integrate(path, [window], source=Source(meter="nvml", domain=domain or probe.primary))


def test_counter_instant_and_average_are_read(driver: Driver) -> None:
    meter = NvmlMeter()
    probe = meter.probe()
    assert (probe.ok, probe.reason, probe.primary) == (True, "", "gpu0.energy")
    assert meter.read() == {
        "gpu0.energy": 1_000_000,
        "gpu0.power_instant": 120_000,
        "gpu0.power_average": 118_000,
    }


def test_a_counters_difference_is_the_energy(driver: Driver) -> None:
    energy = run(driver, [{"energy": 1_000_000 + 12_000 * i} for i in range(31)])
    assert energy.status == "measured"
    assert energy.joules == pytest.approx(360.0)  # 120 W for 3 s
    source = Source(meter="nvml", domain="gpu0.power_instant")
    instant = integrate(driver.path.with_name("power.csv"), [(0, 3 * S)], source=source)
    assert instant.joules == pytest.approx(360.0)


def test_a_superchips_counter_is_the_modules_and_scopes_are_told_apart(driver: Driver) -> None:
    driver.set(**MODULE)
    probe = NvmlMeter().probe()
    assert (probe.ok, probe.reason, probe.primary) == (True, "", "gpu0.module_energy")
    covers = {domain.name: (domain.covers, domain.limit_W) for domain in probe.domains}
    assert covers == {
        "gpu0.module_energy": ("module, CPU and GPU (NVML scope module)", 2000.0),
        "gpu0.power_instant": ("GPU board (NVML scope GPU)", 1400.0),
        "gpu0.power_average": ("GPU board (NVML scope GPU)", 1400.0),
        "gpu0.module_power_instant": ("module, CPU and GPU (NVML scope module)", 2000.0),
        "gpu0.memory_power_average": (
            "GPU memory, inside the GPU's power (NVML scope memory)", None,
        ),
    }  # fmt: skip
    # None is added to another, and only what covers the same is held against the counter.
    assert "+" not in str(probe.primary)
    device = ResolvedDevice(requested="cuda", name="cuda", backend="cuda", executed_on="GPU")
    chosen = meters.select(device, MeterRequest(names=("nvml",)))
    assert chosen.primary is not None
    same = [one.domain for one in chosen.beside if one.covers == chosen.primary.covers]
    assert same == ["gpu0.module_power_instant"]
    assert len(chosen.beside) == 4
    energy = run(driver, [{"energy": 1_000_000 + 21_000 * i} for i in range(31)])
    assert energy.mean_power_W == pytest.approx(210.0)


def test_a_module_scope_that_reads_nothing_is_none(driver: Driver) -> None:
    driver.set(**{"field186.1": 0, "field185.2": 0})
    probe = NvmlMeter().probe()
    assert probe.covers == "GPU board (NVML scope GPU)"
    assert [domain.name for domain in probe.domains][3:] == []


def test_a_counter_that_is_stuck_is_refused(driver: Driver) -> None:
    energy = run(driver, [{"energy": 5_000_000} for _ in range(31)])
    assert (energy.status, energy.joules) == ("unmeasured", None)
    assert "did not move in 3.0 s" in str(energy.reason)


def test_a_counter_that_sticks_half_way_is_refused(driver: Driver) -> None:
    energy = run(driver, [{"energy": 1_000_000 + 12_000 * min(i, 15)} for i in range(31)])
    assert (energy.status, energy.joules) == ("unmeasured", None)  # and not half of the joules
    assert "did not move in 1.5 s" in str(energy.reason)


def test_a_driver_reload_is_refused(driver: Driver) -> None:
    steps = [{"energy": 1_000_000 + 12_000 * i if i < 15 else 12_000 * i} for i in range(31)]
    energy = run(driver, steps)
    assert (energy.status, energy.joules) == ("unmeasured", None)
    assert "went backwards" in str(energy.reason)


def test_more_than_the_power_limit_is_refused(driver: Driver) -> None:
    energy = run(driver, [{"energy": 1_000_000 + 1_000_000 * i} for i in range(31)])  # 10 kW
    assert (energy.status, energy.joules) == ("unmeasured", None)
    assert "implies 10000 W, more than 1400 W" in str(energy.reason)


def test_a_counter_that_stops_answering_is_a_hole(driver: Driver) -> None:
    steps: list[dict[str, Any]] = [
        {"energy": 1_000_000 + 12_000 * i if i < 15 else NOT_SUPPORTED} for i in range(31)
    ]
    energy = run(driver, steps)
    assert (energy.status, energy.joules) == ("partial", None)


def test_a_jetson_answers_and_measures_nothing(driver: Driver) -> None:
    driver.only(JETSON)
    probe = NvmlMeter().probe()
    assert (probe.ok, probe.primary) == (False, None)
    assert "energy: Not Supported" in probe.reason


def test_an_old_gpu_without_fields_or_counter_has_its_power(driver: Driver) -> None:
    driver.only({"name": "Tesla P100", "power": 35_000, "limit": 250_000})
    probe = NvmlMeter().probe()
    assert probe.primary == "gpu0.power"
    assert probe.domains[0].limit_W == 500.0


def test_a_driver_that_is_not_loaded_is_a_reason(driver: Driver, tmp_path: Path) -> None:
    driver.set(init="!9")  # NVML_ERROR_DRIVER_NOT_LOADED
    probe = NvmlMeter(tmp_path).probe()
    assert not probe.ok
    assert probe.reason == "Driver Not Loaded (no NVIDIA driver found)"


def test_no_library_at_all_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "CDLL", absent)
    probe = NvmlMeter(tmp_path).probe()
    assert probe.reason == "NVML Shared Library Not Found (no NVIDIA driver found)"


def test_a_partitioned_gpu_is_not_measured(driver: Driver) -> None:
    driver.set(mig=1)
    assert NvmlMeter().probe().reason == "MIG is on: NVML meters the whole GPU"


def test_a_gpu_is_described_through_the_real_library(driver: Driver) -> None:
    (gpu,) = describe_gpus(["NVIDIA H200"], nvml=pynvml)
    assert (gpu.name, gpu.power_limit_W, gpu.clock_max_MHz) == ("NVIDIA H200", 700.0, 1980)
    assert gpu.vbios is None


def test_throttle_bits_clocks_and_processes_are_watched(driver: Driver, tmp_path: Path) -> None:
    driver.set(event_reasons=0x20 | 0x04, clock1=1410, temperature=83, processes="41,42")
    now = Watch(tmp_path, nvml=pynvml).look()
    assert now.reasons == ("SW thermal slowdown", "SW power cap")
    assert (now.gpu_clock_MHz, now.gpu_temperature_C) == (1410, 83)
    assert now.foreign_processes == 2
    # In a container our own process has another id there, so it is told by being one of them.
    assert Watch(tmp_path, nvml=pynvml, own_processes=1).look().foreign_processes == 1
    driver.set(event_reasons=FUNCTION_NOT_FOUND, throttle_reasons=0x80)
    assert Watch(tmp_path, nvml=pynvml).look().reasons == ("HW power brake",)


def test_a_driver_that_tells_nothing_is_not_judged(driver: Driver, tmp_path: Path) -> None:
    driver.only(JETSON)
    now = Watch(tmp_path, nvml=pynvml, own_processes=1).look()
    assert (now.reasons, now.gpu_clock_MHz, now.foreign_processes) == (None, None, None)


def test_the_loader_finds_the_stand_in_as_it_finds_the_driver(
    library: Path, tmp_path: Path
) -> None:
    Driver(tmp_path / "driver", energy=77_000)
    program = (
        "from edgebench.meters.nvml import NvmlMeter as M; m = M(); m.probe(); print(m.read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(library.parent),
            "FAKE_NVML": str(tmp_path / "driver"),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'gpu0.energy': 77000" in done.stdout
