"""What energy bought, on logs whose energy is known exactly and on a log of a real H200."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.energy_metrics import BATCHED, energy_metrics
from edgebench.meters import powercsv
from edgebench.meters.highest import Piece, highest
from edgebench.meters.integrate import COUNTED, SAMPLED, Source, integrate
from edgebench.meters.protocol import Domain
from edgebench.record import Energy, EnergyMetrics, SampleRow

S = 1_000_000_000
H200 = Path(__file__).with_name("data") / "h200_power.csv"
# The two kernels' blocks of the run that the log was taken in.
FP16 = (118_003_076_666, 122_881_880_577)
INT4 = (123_051_882_938, 125_622_274_504)
BOARD = Domain(name="board", covers="board", kind="power", unit="W", update_s=0.1)
SOURCE = Source(meter="m", domain="board", covers="board")


def log_of(path: Path, watts: list[float]) -> Path:
    """Write ten readings a second of the given powers."""
    text = powercsv.HEADER + "\n" + powercsv.declaration(0, "m", BOARD, 0.1)
    text += "".join(powercsv.reading(i * S // 10, "m", BOARD, w) for i, w in enumerate(watts))
    path.write_text(text)
    return path


def row(query: int, start_s: float, first_s: float, end_s: float, tokens: int) -> SampleRow:
    return SampleRow(
        kernel="int4",
        mode="performance",
        block=0,
        query=query,
        sample=query,
        issued_ns=round(start_s * S),
        first_token_ns=round(first_s * S),
        completed_ns=round(end_s * S),
        output_ids=list(range(tokens)),
    )


def test_a_real_counter_is_integrated_as_its_differences_say() -> None:
    log = powercsv.load(H200)
    counter = log["nvml", "gpu0.energy"]
    for window, recorded_J in ((FP16, 627.52), (INT4, 324.88)):
        energy = integrate(log, [window], source=Source(meter="nvml", domain="gpu0.energy"))
        assert energy.joules == pytest.approx(recorded_J, abs=0.01)
        assert energy.method == COUNTED
        inside = [
            v for t, v in zip(counter.t_ns, counter.values, strict=True)
            if window[0] <= t <= window[1]
        ]  # fmt: skip
        seconds = (window[1] - window[0]) / S
        # The readings inside miss up to a tenth of a second at either end.
        between_J = (inside[-1] - inside[0]) / 1000
        assert between_J < energy.joules < between_J + 0.2 * 1.5 * energy.joules / seconds
        assert energy.error_bound_percent == pytest.approx(100 * 0.2 / seconds)


def test_a_real_counter_and_a_real_power_are_near_each_other() -> None:
    log = powercsv.load(H200)
    for window in (FP16, INT4):
        counted, instant = (
            integrate(log, [window], source=Source(meter="nvml", domain=f"gpu0.{what}"))
            for what in ("energy", "power_instant")
        )
        assert counted.mean_power_W is not None
        # The GPU itself: in the shorter block its two meters are 11 % apart.
        assert instant.mean_power_W == pytest.approx(counted.mean_power_W, rel=0.15)
        assert counted.peak_power_W is not None
        assert counted.mean_power_W <= counted.peak_power_W < 700  # the board's limit
        assert counted.p95_power_W is not None
        assert counted.p95_power_W <= counted.peak_power_W


def test_peak_and_p95_are_weighted_by_time(tmp_path: Path) -> None:
    # 10 s: 20 W, but 80 W from 5.0 to 5.8 s, with edges of a tenth of a second.
    watts = [80.0 if 50 <= i <= 58 else 20.0 for i in range(101)]
    energy = integrate(log_of(tmp_path / "p", watts), [(0, 10 * S)], source=SOURCE)
    assert energy.method == SAMPLED
    assert energy.peak_power_W == pytest.approx(80.0)
    assert energy.p95_power_W == pytest.approx(80.0)  # above it for 8 % of the time
    short = [80.0 if 50 <= i <= 52 else 20.0 for i in range(101)]
    brief = integrate(log_of(tmp_path / "q", short), [(0, 10 * S)], source=SOURCE)
    assert (brief.peak_power_W, brief.p95_power_W) == (pytest.approx(80.0), pytest.approx(20.0))


def test_a_counters_drift_against_its_reader_is_no_peak() -> None:
    # Steps of 0 and of twice the power, as an update of 0.1 s shows when it is read every 0.1 s.
    pieces = [
        Piece(start_ns=i * S // 10, end_ns=(i + 1) * S // 10, joules=10.0 * (i % 2))
        for i in range(40)
    ]
    peak_W, p95_W = highest([pieces], is_counter=True)
    assert peak_W == pytest.approx(60.0)  # 3 of 5 steps; 100 W would be the single step's
    assert p95_W == pytest.approx(60.0)


def test_parts_that_were_not_read_together_have_no_peak() -> None:
    one = [Piece(start_ns=0, end_ns=S, joules=1.0)]
    other = [Piece(start_ns=0, end_ns=S // 2, joules=1.0)]
    assert highest([one, other], is_counter=False) == (None, None)
    assert highest([one, one], is_counter=False) == (2.0, 2.0)


def test_idle_power_is_taken_off_and_gross_stays(tmp_path: Path) -> None:
    watts = [60.0] * 20 + [100.0] * 51 + [70.0] * 20
    path = log_of(tmp_path / "p", watts)
    windows = [(round(2.0 * S), round(7.0 * S))]
    idle = [(0, round(1.9 * S)), (round(7.1 * S), 9 * S)]
    energy = integrate(path, windows, source=SOURCE, idle=idle)
    assert energy.joules == pytest.approx(500.0)
    assert (energy.idle_before_W, energy.idle_after_W) == (60.0, 70.0)
    assert energy.above_idle_joules == pytest.approx(500.0 - 5 * 65.0)
    without = integrate(path, windows, source=SOURCE)
    assert without.joules == energy.joules
    assert without.above_idle_joules is None


def test_the_bound_is_what_the_edges_can_hide(tmp_path: Path) -> None:
    path = log_of(tmp_path / "p", [50.0] * 101)
    one = integrate(path, [(0, 10 * S)], source=SOURCE)
    five = integrate(path, [(2 * i * S, (2 * i + 1) * S) for i in range(5)], source=SOURCE)
    assert one.error_bound_percent == pytest.approx(1.0)
    assert five.error_bound_percent == pytest.approx(10.0)


def metrics(path: Path, rows: list[SampleRow], scenario: str = "single-stream") -> EnergyMetrics:
    windows = [(rows[0].issued_ns, rows[-1].completed_ns)]
    energy = integrate(path, windows, source=SOURCE)
    found = energy_metrics(scenario, rows, [30] * 9, energy, path)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_energy_is_divided_by_the_work_of_the_same_blocks(tmp_path: Path) -> None:
    path = log_of(tmp_path / "p", [40.0] * 101)
    found = metrics(path, [row(i, i, i + 0.2, i + 1, 10) for i in range(8)])
    assert found.joules_per_query == pytest.approx(40.0)
    assert found.joules_per_sample == pytest.approx(40.0)
    assert found.joules_per_output_token == pytest.approx(4.0)
    assert found.joules_per_total_token == pytest.approx(1.0)  # 30 of the prompt and 10
    assert found.tokens_per_joule == pytest.approx(0.25)  # 10 tokens/s at 40 W
    assert found.energy_delay_Js == pytest.approx(40.0 * 1.0)
    assert found.prefill is None
    assert found.phases_reason == "prefill lasts 200 ms, not over 1 s"


def test_phases_are_told_apart_where_both_last_over_a_second(tmp_path: Path) -> None:
    # Each query: 2 s of prefill at 90 W, 3 s of decode at 30 W; the level changes within 0.1 s.
    watts = [90.0 if (i % 50) < 20 else 30.0 for i in range(101)]
    rows = [row(i, 5 * i, 5 * i + 1.95, 5 * i + 4.95, 11) for i in range(2)]
    found = metrics(log_of(tmp_path / "p", watts), rows)
    assert found.prefill is not None
    assert found.decode is not None
    assert found.prefill.mean_power_W == pytest.approx(90.0, rel=0.03)
    assert found.decode.mean_power_W == pytest.approx(30.0, rel=0.03)
    assert found.prefill.joules_per_token == pytest.approx(90.0 * 1.95 / 30, rel=0.03)
    assert found.decode.joules_per_token == pytest.approx(30.0 * 3 / 10, rel=0.03)
    assert found.phases_reason is None


def test_a_batch_has_no_phases_of_its_own(tmp_path: Path) -> None:
    path = log_of(tmp_path / "p", [40.0] * 101)
    rows = [row(0, 0, 4, 8, 10)]
    found = metrics(path, rows, scenario="offline")
    assert (found.prefill, found.phases_reason) == (None, BATCHED)


@pytest.mark.parametrize("status", ["unmeasured", "partial"])
def test_unmeasured_energy_bought_nothing(status: str, tmp_path: Path) -> None:
    energy = Energy(status=status, reason="no meter")  # type: ignore[arg-type]
    rows = [row(0, 0, 1, 2, 3)]
    assert energy_metrics("single-stream", rows, [30], energy, tmp_path) is None
