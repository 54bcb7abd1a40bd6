"""The evidence: a power line has the meter's joules, whatever the moments of its readings."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from edgebench.bundle import read_bundle
from edgebench_reports.evidence import gather, quantiles_ms

HEADER = "t_ns,meter,domain,kind,value,unit\n"


def bundle_with(bundles: ModuleType, tmp_path: Path, power: str) -> Path:
    maker = bundles.Maker(tmp_path / "tree")
    maker.power = HEADER + power
    path: Path = maker.write()
    return path


def test_a_counter_read_between_its_updates_draws_no_steps(
    bundles: ModuleType, tmp_path: Path
) -> None:
    """20 W, published every 100 ms, read every 30 ms: spans of 400 ms see one update more or less.

    So every point lies within 25 % + 30/400 of 20 W.
    """
    lines = ["0,rapl,package-0,period,0.1,s\n"]
    for t_ms in range(0, 3000, 30):
        published_ms = t_ms // 100 * 100
        lines.append(f"{t_ms * 1_000_000},rapl,package-0,counter,{published_ms * 20_000},uJ\n")
    found = gather(read_bundle(bundle_with(bundles, tmp_path, "".join(lines))))
    (own,) = found.power
    assert len(own.power_W) >= 6
    assert all(power == pytest.approx(20, rel=0.33) for power in own.power_W)
    assert own.t_s == sorted(own.t_s)


def test_a_wrap_is_left_out_and_a_power_is_drawn_as_read(
    bundles: ModuleType, tmp_path: Path
) -> None:
    lines = ["0,rapl,package-0,period,0.01,s\n"]
    for t_ms in range(0, 1000, 50):
        value = (t_ms * 20_000) % 10_000_000
        lines.append(f"{t_ms * 1_000_000},rapl,package-0,counter,{value},uJ\n")
        lines.append(f"{t_ms * 1_000_000},nvml,gpu0,power,{65_000},mW\n")
    found = gather(read_bundle(bundle_with(bundles, tmp_path, "".join(lines))))
    by_meter = {own.meter: own for own in found.power}
    assert set(by_meter["nvml"].power_W) == {65.0}
    assert all(power == pytest.approx(20) for power in by_meter["rapl"].power_W)


def test_quantiles_are_measured_values() -> None:
    assert quantiles_ms([5_000_000]) == [5.0] * 101
    spans = [n * 1_000_000 for n in range(201)]
    assert quantiles_ms(spans) == [2.0 * n for n in range(101)]
