"""Integration is a pure function of `power.csv` and the windows; what it may and may not claim."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from edgebench.errors import BundleError
from edgebench.meters import powercsv
from edgebench.meters.integrate import Source, Window, integrate, recompute
from edgebench.meters.protocol import Domain, Kind
from edgebench.record import Energy

S = 1_000_000_000
POWER = Domain(name="board", covers="board", kind="power", unit="mW", update_s=0.1)
COUNTER = Domain(name="board", covers="board", kind="counter", unit="uJ", update_s=0.001)


def wrapping(range_uJ: int, limit_W: float) -> Domain:
    return Domain(
        name="board",
        covers="board",
        kind="counter",
        unit="uJ",
        update_s=0.001,
        range=range_uJ,
        limit_W=limit_W,
    )


def save(
    path: Path, domain: Domain, readings: Sequence[tuple[float, float]], period_s: float = 0.1
) -> Path:
    """Write a log of (seconds, raw value)."""
    text = powercsv.HEADER + "\n" + powercsv.declaration(0, "m", domain, period_s)
    text += "".join(powercsv.reading(round(t * S), "m", domain, v) for t, v in readings)
    path.write_text(text)
    return path


def energy(path: Path, *windows: tuple[float, float], domain: str = "board") -> Energy:
    in_ns = [(round(start * S), round(end * S)) for start, end in windows]
    return integrate(path, in_ns, source=Source(meter="m", domain=domain))


def jittered(seed: int, end_s: float) -> list[float]:
    """Return sampling instants 0.02 to 0.3 s apart, from 0 to `end_s`."""
    draw = random.Random(seed)
    instants = [0.0]
    while instants[-1] < end_s:
        instants.append(instants[-1] + draw.uniform(0.02, 0.3))
    return instants


@pytest.mark.parametrize("kind", ["power", "counter"])
@pytest.mark.parametrize("seed", range(8))
def test_constant_power_gives_power_times_time(kind: Kind, seed: int, tmp_path: Path) -> None:
    watts = 37.5
    instants = jittered(seed, 10.0)
    if kind == "power":
        path = save(tmp_path / "p", POWER, [(t, watts * 1000) for t in instants])
    else:
        path = save(tmp_path / "p", COUNTER, [(t, round(watts * 1e6 * t)) for t in instants])
    draw = random.Random(seed)
    start = draw.uniform(0, 5)
    end = draw.uniform(start + 1, 10)
    result = energy(path, (start, end))
    assert result.status == "measured"
    assert result.coverage == pytest.approx(1.0)
    assert result.mean_power_W == pytest.approx(watts, rel=1e-5)
    assert result.joules == pytest.approx(watts * (end - start), rel=1e-5)


@pytest.mark.parametrize("domain", [POWER, COUNTER], ids=["power", "counter"])
@pytest.mark.parametrize("seed", range(8))
def test_energy_adds_up_over_split_windows(domain: Domain, seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    value, readings = 0, []
    for t in jittered(seed, 10.0):
        value = value + draw.randrange(1, 9) * 10**6 if domain is COUNTER else draw.randrange(10**5)
        readings.append((t, value))
    path = save(tmp_path / "p", domain, readings)
    cuts = sorted(draw.uniform(0.5, 9.5) for _ in range(6))
    whole = energy(path, (cuts[0], cuts[-1])).joules
    pieces = list(pairwise(cuts))
    assert whole is not None
    assert sum(energy(path, piece).joules or 0 for piece in pieces) == pytest.approx(whole)
    assert energy(path, *reversed(pieces)).joules == pytest.approx(whole)
    assert energy(path, *pieces, *pieces[:2]).joules == pytest.approx(whole)  # no time twice


def test_a_ramp_is_integrated_exactly_and_clipped_to_the_window(tmp_path: Path) -> None:
    path = save(tmp_path / "p", POWER, [(i / 10, 2000 * i / 10) for i in range(101)])
    assert energy(path, (0, 10)).joules == pytest.approx(100.0)  # the area under 2 t
    assert energy(path, (2.05, 4.07)).joules == pytest.approx(4.07**2 - 2.05**2)


def test_only_a_kernels_own_blocks_count(tmp_path: Path) -> None:
    # 10 W in even seconds, 90 W in odd ones, stepping between two readings 1 ms apart.
    readings = []
    for second in range(8):
        level = 90_000 if second % 2 else 10_000
        readings += [(second + 0.001 + i / 10 * 0.998, level) for i in range(11)]
    path = save(tmp_path / "p", POWER, readings)
    even = energy(path, *((s + 0.01, s + 0.99) for s in (0, 2, 4, 6)))
    odd = energy(path, *((s + 0.01, s + 0.99) for s in (1, 3, 5, 7)))
    assert even.mean_power_W == pytest.approx(10.0)
    assert odd.mean_power_W == pytest.approx(90.0)


def test_an_unequal_spacing_does_not_weigh_the_mean(tmp_path: Path) -> None:
    # Many readings at 100 W in the first second, few at 10 W in the next nine.
    dense = [(i / 100, 100_000) for i in range(100)]
    sparse = [(1 + i / 4, 10_000) for i in range(37)]
    result = energy(save(tmp_path / "p", POWER, dense + sparse), (0, 10))
    assert result.mean_power_W == pytest.approx(19.0, abs=0.1)


def test_a_counter_may_wrap(tmp_path: Path) -> None:
    modulus = 5_000_000
    counts = [(i / 10, (4_200_000 + 1_000_000 * i) % modulus) for i in range(31)]
    result = energy(save(tmp_path / "p", wrapping(modulus, 20.0), counts), (0.25, 2.75))
    assert result.joules == pytest.approx(25.0)


def test_a_counter_that_goes_back_without_a_range_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "p", COUNTER, [(0, 9e6), (0.1, 1e7), (0.2, 5), (0.3, 1e6)])
    result = energy(path, (0, 0.3))
    assert (result.status, result.joules) == ("unmeasured", None)
    assert "went backwards" in str(result.reason)
    assert energy(path, (0, 0.1)).status == "measured"  # not in this kernel's block


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "p", wrapping(10**12, 100.0), [(0, 0), (0.1, 10**6), (0.2, 10**9)])
    assert "more than 100 W" in str(energy(path, (0, 0.2)).reason)
    # 100 W over the gap plus one update period is still possible: 0.2 s x 100 W.
    edge = save(tmp_path / "q", wrapping(10**12, 100.0), [(0, 0), (0.1, 20 * 10**6)])
    assert energy(edge, (0, 0.1)).status == "measured"


def test_a_counter_that_stands_still_is_not_zero(tmp_path: Path) -> None:
    path = save(tmp_path / "p", COUNTER, [(i / 10, 7) for i in range(30)])
    result = energy(path, (0, 2))
    assert (result.status, result.joules, result.mean_power_W) == ("unmeasured", None, None)
    assert result.reason == "board: did not move in 2.0 s"
    zeros = save(tmp_path / "q", POWER, [(i / 10, 0) for i in range(30)])
    assert energy(zeros, (0, 2)).status == "unmeasured"


@pytest.mark.parametrize("absurd", [-5000, 10**9])
def test_a_negative_or_absurd_power_is_no_reading(absurd: int, tmp_path: Path) -> None:
    limited = Domain(name="board", covers="b", kind="power", unit="mW", update_s=0.1, limit_W=500.0)
    readings = [(i / 10, absurd if i in (30, 31) else 10_000) for i in range(101)]
    path = save(tmp_path / "p", limited, readings)
    found = energy(path, (0, 10))
    assert found.joules == pytest.approx(100.0)
    assert str(found.method).endswith("power readings, 2 negative or absurd ones left out")
    assert energy(path, (4, 10)).method == "trapezoids under power readings"


def test_a_gap_is_a_hole_and_coverage_decides(tmp_path: Path) -> None:
    def without(first: int, last: int) -> Energy:
        kept = [(i / 10, 10_000.0) for i in range(101) if not first < i < last]
        return energy(save(tmp_path / "p", POWER, kept), (0, 10))

    assert without(30, 35).coverage == pytest.approx(1.0)  # 5 periods: bridged
    small = without(30, 33 + 3)  # 0.6 s, a hole
    assert (small.status, small.joules) == ("partial", None)
    assert small.coverage == pytest.approx(0.94)
    assert small.mean_power_W == pytest.approx(10.0)
    assert "94.0 %" in str(small.reason)


def test_ninety_five_percent_is_enough(tmp_path: Path) -> None:
    kept = [(i / 10, 10_000.0) for i in range(201) if not 30 < i < 36]  # 0.6 s of 20 s
    result = energy(save(tmp_path / "p", POWER, kept), (0, 20))
    assert result.status == "measured"
    assert result.coverage == pytest.approx(0.97)
    assert result.joules == pytest.approx(200.0)  # mean power x the window's time


def test_a_counter_bridges_a_gap_inside_one_window_only(tmp_path: Path) -> None:
    readings = [(i / 10, 10**6 * i) for i in range(101) if not 30 < i < 60]
    path = save(tmp_path / "p", wrapping(10**12, 100.0), readings)
    assert energy(path, (0, 10)).joules == pytest.approx(100.0)
    assert energy(path, (0, 4)).status == "partial"  # whose share of the gap is unknown
    # It could have wrapped twice within the gap: 3 s at up to 100 W pass a range of 200 J.
    small = save(tmp_path / "q", wrapping(200 * 10**6, 100.0), readings)
    assert energy(small, (0, 10)).status == "partial"


def test_a_window_outside_the_log_is_not_covered(tmp_path: Path) -> None:
    path = save(tmp_path / "p", POWER, [(i / 10, 10_000) for i in range(21)])
    assert energy(path, (1.5, 4.5)).coverage == pytest.approx(0.5 / 3)
    late = energy(path, (5, 6))
    assert (late.status, late.mean_power_W, late.coverage) == ("unmeasured", None, 0.0)


def test_a_clock_that_goes_back_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "p", POWER, [(0, 1), (0.2, 1), (0.1, 1), (0.3, 1)])
    assert "clock" in str(energy(path, (0, 0.3)).reason)


def test_every_part_of_a_sum_must_be_measured(tmp_path: Path) -> None:
    text = powercsv.HEADER + "\n"
    for name, scale in (("a", 1000), ("b", 2000)):
        part = Domain(name=name, covers=name, kind="power", unit="mW", update_s=0.1)
        last = 101 if name == "a" else 61
        text += "".join(powercsv.reading(i * S // 10, "m", part, 10 * scale) for i in range(last))
    path = tmp_path / "p"
    path.write_text(text)
    assert energy(path, (0, 6), domain="a+b").joules == pytest.approx(180.0)
    half = energy(path, (0, 10), domain="a+b")
    assert (half.status, half.joules) == ("partial", None)
    assert half.coverage == pytest.approx(0.6)
    absent = energy(path, (0, 6), domain="a+c")
    assert (absent.status, absent.reason) == ("unmeasured", "c: fewer than two readings")


def test_no_meter_keeps_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text(powercsv.HEADER + "\n")
    result = integrate(path, [(0, S)], source=None, reason="no powercap zones")
    assert result == Energy(status="unmeasured", reason="no powercap zones")
    assert recompute(path, [(0, S)], result) == result


def test_no_block_at_all_is_unmeasured(tmp_path: Path) -> None:
    path = save(tmp_path / "p", POWER, [(0, 1), (1, 1)])
    assert energy(path).status == "unmeasured"
    assert energy(path, (0.5, 0.5), (0.7, 0.6)).status == "unmeasured"


@pytest.mark.parametrize("watts", [5_000, 0], ids=["measured", "unmeasured"])
def test_recompute_gives_the_same_energy_from_the_file(watts: int, tmp_path: Path) -> None:
    path = save(tmp_path / "p", POWER, [(i / 10, watts) for i in range(40)])
    windows: list[Window] = [(S // 2, S), (2 * S, 3 * S)]
    first = integrate(path, windows, source=Source(meter="m", domain="board"))
    assert recompute(path, windows, first) == first
    assert recompute(path, windows, Energy.model_validate_json(first.model_dump_json())) == first


def test_readings_keep_every_bit(tmp_path: Path) -> None:
    path = save(tmp_path / "p", COUNTER, [(0, 2**62 + 1), (0.1, 2**62 + 10**6 + 1)])
    series = powercsv.load(path)["m", "board"]
    assert series.values == [2**62 + 1, 2**62 + 10**6 + 1]
    assert energy(path, (0, 0.1)).joules == pytest.approx(1.0, rel=1e-9)


BAD_ROWS: dict[str, Callable[[str], str]] = {
    "NaN": lambda row: row.replace("7.5", "nan"),
    "infinite": lambda row: row.replace("7.5", "1e999"),
    "too few fields": lambda row: row.rsplit(",", 1)[0],
    "too many fields": lambda row: row + ",x",
    "unknown kind": lambda row: row.replace("power", "magic"),
    "unknown unit": lambda row: row.replace("mW", "hp"),
    "unit of another kind": lambda row: row.replace("mW", "mJ"),
    "negative time": lambda row: "-" + row,
    "script": lambda row: row.replace("board", "<script>"),
    "not a number": lambda row: row.replace("7.5", "7.5.5"),
    "empty": lambda row: "",
}


@pytest.mark.parametrize("spoil", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_malformed_line_is_named(spoil: Callable[[str], str], tmp_path: Path) -> None:
    good = "5,m,board,power,7.5,mW"
    path = tmp_path / "power.csv"
    path.write_text(f"{powercsv.HEADER}\n{good}\n{spoil(good)}\n")
    with pytest.raises(BundleError, match="in line 3"):
        energy(path, (0, 1))


def test_a_unit_may_not_change(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text(f"{powercsv.HEADER}\n1,m,board,power,1,mW\n2,m,board,power,1,W\n")
    with pytest.raises(BundleError, match="line 3"):
        energy(path, (0, 1))


@pytest.mark.parametrize("content", [b"", b"time,watts\n", b"\xff\xfe\n"])
def test_a_file_that_is_no_power_log_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"power\.csv"):
        energy(path, (0, 1))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="readable"):
        energy(tmp_path / "power.csv", (0, 1))
