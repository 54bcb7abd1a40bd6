"""Units: conversions are exact, rounding carries into the next prefix, None is a dash."""

from __future__ import annotations

import pytest

from edgebench import units


def test_conversions() -> None:
    assert units.ms_from_ns(1_500_000) == 1.5
    assert units.s_from_ns(2_000_000_000) == 2.0
    assert units.ns_from_ms(1.5) == 1_500_000
    assert units.ns_from_s(0.25) == 250_000_000


def test_not_measured_stays_none_and_shows_as_a_dash() -> None:
    assert units.ms_from_ns(None) is None
    assert units.s_from_ns(None) is None
    shown = (
        units.format_number(None),
        units.format_si(None, "B/s"),
        units.format_bytes(None),
        units.format_ms(None),
        units.format_percent(None),
        units.format_fraction(None),
        units.format_duration(None),
    )
    assert set(shown) == {units.DASH} == {"–"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12.345, "12.3"), (1234.5, "1230"), (0.00123456, "0.00123"), (-9.999, "-10.0")],
)
def test_format_number_keeps_significant_digits_without_an_exponent(
    value: float, shown: str
) -> None:
    assert units.format_number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B/s"),
        (12_340_000_000, "12.3 GB/s"),
        (999.6, "1.00 kB/s"),  # rounding carries into the next prefix
        (999.4, "999 B/s"),
        (4.5e-4, "450 µB/s"),
        (3e-11, "0.0300 nB/s"),  # below the smallest prefix
        (7e15, "7000 TB/s"),  # above the largest
        (-2500, "-2.50 kB/s"),
    ],
)
def test_format_si_picks_the_prefix(value: float, shown: str) -> None:
    assert units.format_si(value, "B/s") == shown


def test_sizes_times_and_percentages() -> None:
    assert units.format_bytes(4_920_000) == "4.92 MB"
    assert units.format_ms(0.45) == "450 µs"
    assert units.format_ms(12.3) == "12.3 ms"
    assert units.format_percent(87.46) == "87.5 %"
    assert units.format_fraction(0.9745) == "97.5 %"
    assert units.format_fraction(1.0, digits=0) == "100 %"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.85, "850 ms"),
        (0.9996, "1.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (-5, "-5.0 s"),
    ],
)
def test_format_duration(seconds: float, shown: str) -> None:
    assert units.format_duration(seconds) == shown
