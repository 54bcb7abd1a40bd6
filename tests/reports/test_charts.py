"""The charts: what was measured is drawn where it belongs, what was not is said in words."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from edgebench_reports import charts
from edgebench_reports.entries import Entry, rank_entries
from edgebench_reports.pareto import pareto
from edgebench_reports.roofline_chart import Mark, place, roofline
from edgebench_reports.speed_chart import speed_accuracy


def entry(factory: ModuleType, data: dict[str, Any], kernel: str = "int4") -> Entry:
    """One kernel's entry."""
    entries = rank_entries([factory.submission(data)])
    return next(e for e in entries if e.result.kernel == kernel)


def roof(**changes: Any) -> dict[str, Any]:
    """A place with round numbers: 4 operations a byte."""
    return {
        "bytes_per_token": 1e8,
        "operations_per_token": 4e8,
        "compute_ceiling": "int8",
        **changes,
    }


def test_left_of_the_ridge_bandwidth_places_a_mark(factory: ModuleType) -> None:
    data = factory.edited(
        factory.record_data(),
        "int4",
        roofline=roof(percent_of_bandwidth=50.0, percent_of_compute=1.0),
    )
    mark = place(entry(factory, data))
    assert mark == Mark(intensity=4.0, rate=4.0 * factory.BANDWIDTH * 0.5)


def test_right_of_the_ridge_compute_places_a_mark(factory: ModuleType) -> None:
    roofline_place = roof(bytes_per_token=1e6, percent_of_bandwidth=2.0, percent_of_compute=25.0)
    data = factory.edited(factory.record_data(), "int4", roofline=roofline_place)
    mark = place(entry(factory, data))
    assert mark == Mark(intensity=400.0, rate=factory.INT8 * 0.25)


@pytest.mark.parametrize("percent", [0.1, 40.0, 100.0])
def test_no_mark_stands_above_its_roof(factory: ModuleType, percent: float) -> None:
    for intensity in (0.5, 4.0, 28.0, 29.0, 500.0):
        where = roof(bytes_per_token=4e8 / intensity, percent_of_bandwidth=percent,
                     percent_of_compute=percent)  # fmt: skip
        mark = place(entry(factory, factory.edited(factory.record_data(), "int4", roofline=where)))
        assert isinstance(mark, Mark)
        assert mark.rate <= min(intensity * factory.BANDWIDTH, factory.INT8) * (1 + 1e-12)


def test_a_missing_percentage_is_a_reason_not_a_mark(factory: ModuleType) -> None:
    where = roof(percent_of_compute=1.0, reason="bandwidth: the weights fit")
    data = factory.edited(factory.record_data(), "int4", roofline=where)
    assert place(entry(factory, data)) == "bandwidth: the weights fit"
    chart = roofline(rank_entries([factory.submission(data)]))
    assert chart is not None
    assert any(remark.endswith("int4: bandwidth: the weights fit") for remark in chart.remarks)


def test_without_anything_measured_there_is_no_panel(factory: ModuleType) -> None:
    entries = rank_entries([factory.submission(factory.bare(factory.record_data()))])
    chart = roofline(entries)
    assert chart is not None
    assert chart.panels == ()
    assert len(chart.remarks) == 2
    assert speed_accuracy(entries) is None
    assert roofline([]) is None


def test_there_is_a_roofline_per_system_with_its_own_ceilings(factory: ModuleType) -> None:
    chart = roofline(rank_entries(factory.gallery()))
    assert chart is not None
    assert [panel.title for panel in chart.panels] == [
        "AMD-EPYC-2c-avx512_vnni",
        "Intel-Xeon-2c-avx512_vnni",
        "Jetson-Orin-12c-neon_dotprod",
    ]
    assert "21.4 GB/s" in str(chart.panels[1].spec)
    assert "57.8 GB/s" in str(chart.panels[2].spec)


def test_speed_panels_are_per_workload_and_quality(factory: ModuleType) -> None:
    entries = rank_entries([factory.submission(factory.record_data(*c)) for c in factory.SPEEDS])
    chart = speed_accuracy(entries)
    assert chart is not None
    assert [panel.title for panel in chart.panels] == [
        "assistant: exact match",
        "assistant: call NLL",
        "assistant@300m: exact match",
        "assistant@300m: call NLL",
    ]
    drawn = factory.chart_rows(chart.panels[0].spec)
    assert {(v["kernel"], v["scenario"], v["speedup"]) for v in drawn} == {
        ("fp16", "single-stream", ""),
        ("int4", "single-stream", "2.43×"),
        ("fp16", "offline", ""),
        ("int4", "offline", "1.71×"),
    }


def test_open_models_differ_from_closed_ones_in_colour_and_in_shape(factory: ModuleType) -> None:
    entries = rank_entries(
        [
            factory.submission(factory.record_data("assistant@300m", track=track))
            for track in ("closed", "open")
        ]
    )
    for chart in (speed_accuracy(entries), pareto(entries), roofline(entries)):
        assert chart is not None
        drawn = [row for row in factory.chart_rows(chart.panels[0].spec) if "mark" in row]
        marks = {(row["kernel"], row["mark"], row["shape"]) for row in drawn}
        assert marks <= {
            ("fp16", "fp16", "single-stream"),
            ("int4", "int4", "single-stream"),
            ("int4", "open", "open, single-stream"),
        }
        assert ("int4", "open", "open, single-stream") in marks


def test_a_pareto_mark_grows_with_the_bytes_of_the_weights(factory: ModuleType) -> None:
    data = factory.record_data()
    weights = {result["kernel"]: result["weight_bytes"] for result in data["results"]}
    chart = pareto(rank_entries([factory.submission(data)]))
    assert chart is not None
    drawn = [row for row in factory.chart_rows(chart.panels[0].spec) if "area" in row]
    areas = {row["kernel"]: row["area"] for row in drawn}
    low, high = charts.SMALLEST_AREA, charts.LARGEST_AREA
    assert areas["fp16"] == high
    assert areas["int4"] == low + (high - low) * weights["int4"] / weights["fp16"]
    assert charts.areas([None, 0]) == [charts.POINT_AREA, charts.POINT_AREA]
    assert charts.areas([None, 4, 2]) == [charts.POINT_AREA, high, (low + high) / 2]


def test_marks_and_legend_have_one_colour_a_kernel() -> None:
    scale = charts.colour("kernel").to_dict()["scale"]
    shown = dict(zip(scale["domain"], scale["range"], strict=True))
    assert len(shown) == len(scale["domain"])
    assert {kernel: shown[kernel] for kernel in charts.KERNEL_COLOURS} == charts.KERNEL_COLOURS
