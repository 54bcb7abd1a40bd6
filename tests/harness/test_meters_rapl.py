"""RAPL: which powercap zones are read, which are left out, and what is said when none can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgebench.meters.integrate import Source, integrate
from edgebench.meters.rapl import NO_ZONES, RaplMeter
from edgebench.meters.sampler import PowerLog, Probed
from edgebench.record import Energy

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: object = 1000) -> Path:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return path


def run(root: Path, steps: list[tuple[float, dict[str, object]]]) -> Energy:
    """Sample a machine whose zones change at each (second, {zone: uJ}); whole time as window."""
    meter = RaplMeter(root)
    probe = meter.probe()
    assert probe.primary is not None
    now_ns = [0]
    csv = root / "power.csv"
    log = PowerLog([Probed(meter=meter, probe=probe)], csv, clock_ns=lambda: now_ns[0])
    log._file = csv.open("w")
    log._write("t_ns,meter,domain,kind,value,unit\n" + log._declarations())
    for at_s, zones in steps:
        now_ns[0] = int(at_s * 1e9)
        for folder, value in zones.items():
            file = root / "sys/class/powercap" / folder / "energy_uj"
            file.unlink(missing_ok=True) if value is None else file.write_text(str(value))
        log.sample()
    log._file.close()
    window = (int(steps[0][0] * 1e9), int(steps[-1][0] * 1e9))
    return integrate(csv, [window], source=Source(meter="rapl", domain=probe.primary))


def test_no_powercap_is_told_with_its_usual_causes(tmp_path: Path) -> None:
    probe = RaplMeter(tmp_path).probe()
    assert (probe.ok, probe.reason, probe.primary) == (False, NO_ZONES, None)
    assert RaplMeter(tmp_path).read() == {}


def test_packages_and_memory_are_added_and_nothing_overlaps(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:0:0", "core")
    zone(tmp_path, "intel-rapl:0:1", "uncore")
    zone(tmp_path, "intel-rapl:0:2", "dram")
    zone(tmp_path, "intel-rapl:1", "package-1")
    zone(tmp_path, "intel-rapl:2", "psys")
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 999)
    meter = RaplMeter(tmp_path)
    probe = meter.probe()
    assert probe.ok
    assert probe.primary == "dram-0+package-0+package-1"
    assert probe.covers == "CPU packages and memory"
    assert {domain.name for domain in probe.domains} == {"package-0", "package-1", "dram-0"}
    assert meter.read() == {"package-0": 1000, "package-1": 1000, "dram-0": 1000}


def test_the_mmio_twin_alone_is_read(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 999)
    meter = RaplMeter(tmp_path)
    assert meter.probe().ok
    assert meter.read() == {"package-0": 999}


def test_dies_of_one_package_are_added(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0-die-0")
    zone(tmp_path, "intel-rapl:1", "package-0-die-1")
    assert RaplMeter(tmp_path).probe().primary == "package-0-die-0+package-0-die-1"


def test_permission_denied_names_the_command_that_fixes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0")
    real = Path.read_text

    def refuse(self: Path, *args: object, **kwargs: object) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    if os.geteuid() == 0:  # root reads files of mode 000
        monkeypatch.setattr(Path, "read_text", refuse)
    else:
        (path / "energy_uj").chmod(0)
    probe = RaplMeter(tmp_path).probe()
    assert not probe.ok
    assert "permission denied" in probe.reason
    assert "chmod a+r" in probe.reason


def test_one_unreadable_socket_of_two_is_not_the_machine(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:1", "package-1", "garbage")
    probe = RaplMeter(tmp_path).probe()
    assert (probe.ok, probe.primary) == (False, None)
    assert "package-1: ValueError" in probe.reason


def test_memory_that_cannot_be_read_is_not_left_out_in_silence(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:0:2", "dram", "garbage")
    probe = RaplMeter(tmp_path).probe()
    assert (probe.ok, probe.primary) == (False, None)
    assert "dram-0: ValueError" in probe.reason


def test_a_wrap_is_bridged_exactly(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    near_end = RANGE_UJ - 2_000_000
    steps = [(0.0, near_end), (0.1, near_end + 1_500_000), (0.2, 1_000_000), (0.3, 2_500_000)]
    energy = run(tmp_path, [(t, {"intel-rapl:0": uj}) for t, uj in steps])
    assert energy.status == "measured"
    assert energy.joules == pytest.approx(4.5)
    assert energy.mean_power_W == pytest.approx(15.0)
    assert energy.domain == "package-0"


def test_a_reset_is_not_taken_for_a_wrap(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    steps = [(0.0, 90_000_000_000), (0.1, 90_001_000_000), (0.2, 0), (0.3, 1_000_000)]
    energy = run(tmp_path, [(t, {"intel-rapl:0": uj}) for t, uj in steps])
    assert (energy.status, energy.joules) == ("unmeasured", None)
    assert "implies" in str(energy.reason)


def test_a_file_that_becomes_unreadable_is_a_hole_and_never_a_wrap(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    steps: list[tuple[float, dict[str, object]]] = [
        (i / 10, {"intel-rapl:0": 1_000_000 * i if i < 10 else None}) for i in range(31)
    ]
    energy = run(tmp_path, steps)
    assert (energy.status, energy.joules) == ("partial", None)
    assert energy.coverage == pytest.approx(0.3)
    assert energy.mean_power_W == pytest.approx(10.0)


def test_two_packages_add_up(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:1", "package-1")
    both = [{"intel-rapl:0": 1_000_000 * i, "intel-rapl:1": 2_000_000 * i} for i in range(11)]
    energy = run(tmp_path, [(i / 10, zones) for i, zones in enumerate(both)])
    assert energy.joules == pytest.approx(30.0)
    assert energy.domain == "package-0+package-1"
