"""NVML: a probe is a reading; every way in which the library loads and measures nothing is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgebench import meters
from edgebench.devices import ResolvedDevice
from edgebench.gpus import describe_gpus
from edgebench.meters import nvml as nvml_module
from edgebench.meters.nvml import NvmlMeter, load_nvml


class NvmlError(Exception):
    """Stands for pynvml.NVMLError."""


ENERGY_AND_POWER = {
    "energy": 5000,
    "instant": 90000,
    "average": 85000,
    "power": 80000,
    "limit": 700000,
}


class FakeNvml:
    """nvidia-ml-py with one GPU; `broken` names the calls that raise."""

    NVMLError = NvmlError
    NVML_CLOCK_SM = 1

    def __init__(self, *broken: str, mig: int = 0, **values: int) -> None:
        self.values = dict(ENERGY_AND_POWER) | values
        self.broken = set(broken)
        self.mig = mig

    def _get(self, what: str) -> int:
        if what in self.broken:
            raise NvmlError("Not Supported")
        return self.values[what]

    def nvmlInit(self) -> None:
        if "init" in self.broken:
            raise NvmlError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if not uuid.startswith("GPU-"):
            raise NvmlError("Not Found")
        return uuid

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=150 << 30)

    def nvmlDeviceGetMaxClockInfo(self, handle: int, clock: int) -> int:
        return 1980

    def nvmlDeviceGetVbiosVersion(self, handle: int) -> str:
        raise NvmlError("Not Supported")

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        if "mig" in self.broken:
            raise NvmlError("Not Supported")
        return [self.mig, self.mig]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._get("energy")

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._get("power")

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return self._get("limit")

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[Any]) -> list[Any]:
        if isinstance(fields[0], tuple):  # another scope than the GPU
            return [SimpleNamespace(nvmlReturn=3, value=SimpleNamespace(uiVal=0))]
        what = {185: "average", 186: "instant"}[fields[0]]
        code = 3 if what in self.broken else 0
        value = SimpleNamespace(uiVal=self.values[what])
        return [SimpleNamespace(nvmlReturn=code, value=value)]


CUDA = ResolvedDevice(requested="cuda", name="cuda", backend="cuda", executed_on="GPU")
CPU = ResolvedDevice(requested="cpu", name="cpu", backend="cpu", executed_on="CPU")


def test_a_working_gpu_reports_its_counter_first(tmp_path: Path) -> None:
    meter = NvmlMeter(tmp_path, nvml=FakeNvml())
    probe = meter.probe()
    assert probe.ok
    assert probe.primary == "gpu0.energy"
    assert [domain.kind for domain in probe.domains] == ["counter", "power", "power"]
    assert probe.domains[0].limit_W == 1400.0
    assert meter.read() == {
        "gpu0.energy": 5000,
        "gpu0.power_instant": 90000,
        "gpu0.power_average": 85000,
    }
    assert probe.beside == ("gpu0.power_instant", "gpu0.power_average")


def test_the_call_that_may_mean_either_is_asked_only_without_the_fields(tmp_path: Path) -> None:
    meter = NvmlMeter(tmp_path, nvml=FakeNvml("energy", "instant", "average"))
    assert meter.probe().primary == "gpu0.power"
    assert meter.read() == {"gpu0.power": 80000}
    assert meter.probe().domains[0].update_s == 1.0  # it may be an average


def test_a_gpu_without_counter_reports_instant_power(tmp_path: Path) -> None:
    probe = NvmlMeter(tmp_path, nvml=FakeNvml("energy")).probe()
    assert probe.primary == "gpu0.power_instant"
    assert "energy: Not Supported" in probe.reason


def test_a_jetson_loads_counts_and_measures_nothing(tmp_path: Path) -> None:
    broken = ("energy", "instant", "average", "power", "limit", "mig")
    probe = NvmlMeter(tmp_path, nvml=FakeNvml(*broken)).probe()
    assert (probe.ok, probe.primary, probe.domains) == (False, None, ())
    assert "energy: Not Supported" in probe.reason
    assert "power: Not Supported" in probe.reason


def test_a_driver_that_does_not_answer_is_the_reason(tmp_path: Path) -> None:
    probe = NvmlMeter(tmp_path, nvml=FakeNvml("init")).probe()
    assert not probe.ok
    assert "Driver Not Loaded (no NVIDIA driver found)" in probe.reason


def test_a_partitioned_gpu_is_not_measured(tmp_path: Path) -> None:
    assert "MIG" in NvmlMeter(tmp_path, nvml=FakeNvml(mig=1)).probe().reason


def test_a_call_that_fails_later_is_no_reading(tmp_path: Path) -> None:
    fake = FakeNvml()
    meter = NvmlMeter(tmp_path, nvml=fake)
    meter.probe()
    fake.broken.add("energy")
    assert set(meter.read()) == {"gpu0.power_instant", "gpu0.power_average"}


def without_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # import raises ImportError


def test_no_library_and_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_module(monkeypatch)
    assert load_nvml(tmp_path) == (None, "no NVIDIA driver")


def test_no_library_beside_a_driver_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_module(monkeypatch)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("Kernel Module  570.1\n")
    assert "pip install 'edgebench[nvidia]'" in load_nvml(tmp_path)[1]


def test_the_old_package_that_hides_the_new_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", ModuleType("pynvml"))
    module, reason = load_nvml(tmp_path)
    assert module is None
    assert "uninstall pynvml" in reason


def chosen(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> None:
    monkeypatch.setattr(nvml_module, "load_nvml", lambda root: (make(), ""))


def test_the_gpu_is_primary_only_for_kernels_on_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, FakeNvml)
    selection = meters.select(CUDA, root=tmp_path)
    assert selection.primary is not None
    assert (selection.primary.meter, selection.primary.domain) == ("nvml", "gpu0.energy")
    assert [one.domain for one in selection.beside] == ["gpu0.power_instant", "gpu0.power_average"]
    assert {one.covers for one in selection.beside} == {selection.primary.covers}
    assert [item.probe.meter for item in selection.working] == ["nvml"]
    selection = meters.select(CPU, root=tmp_path)
    assert selection.primary is None
    assert "RAPL: no powercap zones" in selection.reason
    assert "NVML: works, but does not cover kernels on the CPU" in selection.reason
    assert len(selection.working) == 1  # recorded all the same


def test_the_reason_is_put_together_from_all_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_module(monkeypatch)
    assert meters.select(CPU, root=tmp_path).reason == (
        "INA238: no INA238 power chip on the I2C bus; "
        "INA3221: no INA3221 power chip on the I2C bus; "
        "JTOP: jtop.service is not active; sudo systemctl start jtop; "
        "RAPL: no powercap zones (not bare metal, or masked by the container); "
        "NVML: no NVIDIA driver"
    )


def test_gpus_are_described_without_what_names_the_board(tmp_path: Path) -> None:
    (gpu,) = describe_gpus(["NVIDIA H200"], tmp_path, FakeNvml())
    assert gpu.model_dump() == {
        "name": "NVIDIA H200",
        "memory_bytes": 150 << 30,
        "power_limit_W": 700.0,
        "clock_max_MHz": 1980,
        "l2_cache_bytes": None,
        "vbios": None,
    }
    assert describe_gpus(["NVIDIA H200"], tmp_path, FakeNvml("init"))[0].memory_bytes is None
    assert describe_gpus([], tmp_path) == []


@pytest.mark.parametrize(
    ("visible", "domain"),
    [(None, "gpu0.energy"), ("", "gpu0.energy"), ("2,0", "gpu2.energy"), ("GPU-ab", "gpu.energy")],
)
def test_the_gpu_that_cuda_sees_first_is_read(visible: str | None, domain: str) -> None:
    variables = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    probe = NvmlMeter(nvml=FakeNvml(), variables=variables).probe()
    assert probe.primary == domain


def test_a_gpu_that_nvml_does_not_know_is_a_reason() -> None:
    probe = NvmlMeter(nvml=FakeNvml(), variables={"CUDA_VISIBLE_DEVICES": "-1x"}).probe()
    assert not probe.ok
    assert "Not Found" in probe.reason
