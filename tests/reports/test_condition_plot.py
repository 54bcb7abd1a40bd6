"""The machine's state over a run: what was read is drawn, what held it back is shaded and said."""

from __future__ import annotations

import re
from types import ModuleType

from edgebench.record import Conditions, ConditionSample
from edgebench_reports.condition_plot import BLIND, FREE, OLD, UNSEEN, condition_plot
from edgebench_reports.details import describe_run
from edgebench_reports.entries import rank_entries
from edgebench_reports.run_page import run_html
from edgebench_reports.tables import make_table


def conditions(*samples: ConditionSample, **changes: object) -> Conditions:
    fields: dict[str, object] = {"period_s": 0.5, "readings": len(samples), "covers_part": False}
    return Conditions.model_validate(
        fields | {"sees_throttling": True, "timeline": list(samples)} | changes
    )


def hot(at_s: float, *names: str, clock: float | None = 900.0) -> ConditionSample:
    return ConditionSample(
        at_s=at_s, gpu_clock_MHz=clock, cpu_clock_MHz=2000.0, hottest_C=70.0 + at_s,
        held_back_by=list(names),
    )  # fmt: skip


def test_clocks_heat_and_throttle_are_drawn() -> None:
    samples = [
        hot(0.0),
        hot(1.0, "SW thermal slowdown", clock=600.0),
        hot(2.0, clock=600.0),
        hot(3.0),
    ]
    plot = condition_plot(conditions(*samples, held_back={"SW thermal slowdown": 0.25}))
    assert [name for name, _ in plot.clock_names] == ["GPU clock", "CPU clock, slowest core"]
    assert plot.clocks.count("<polyline") == 2
    assert plot.heat.count("<polyline") == 1
    (band,) = re.findall(r'class="held" x="([\d.]+)" y="\d+" width="([\d.]+)"', plot.clocks)
    # The axis is 64 to 612 px for 0 to 3 s; held from the reading at 1 s to the one at 2 s.
    assert abs(float(band[0]) - (64 + 548 / 3)) < 0.1
    assert abs(float(band[1]) - 548 / 3) < 0.1
    assert plot.held == ("SW thermal slowdown: 25 % of 4 readings",)
    assert plot.missing is None


def test_neighbouring_readings_held_by_the_same_are_one_band() -> None:
    names = ("SW power cap",)
    plot = condition_plot(conditions(*(hot(float(n), *names) for n in range(5)), hot(5.0)))
    assert plot.clocks.count('class="held"') == 1


def test_what_is_not_shown_is_said_and_not_drawn() -> None:
    blind = conditions(*(ConditionSample(at_s=float(n)) for n in range(4)), sees_throttling=False)
    plot = condition_plot(blind)
    assert not plot.clocks
    assert not plot.heat
    assert (plot.missing, plot.held) == (BLIND, (UNSEEN,))
    assert condition_plot(None).missing == OLD
    free = condition_plot(conditions(hot(0.0), hot(1.0)))
    assert free.held == (FREE,)


def test_a_missing_clock_is_a_gap_and_a_long_log_keeps_its_worst() -> None:
    samples = [hot(float(n), clock=None if n % 2 else 900.0) for n in range(600)]
    samples[301] = hot(301.0, "HW slowdown", clock=300.0)
    plot = condition_plot(conditions(*samples))
    line = re.findall(r'points="([^"]+)"><title>GPU', plot.clocks)[0].split()
    assert len(line) == 200
    assert len({point.split(",")[1] for point in line}) == 2  # 900 MHz, and the slow reading
    assert plot.clocks.count('class="held"') == 1


def test_the_page_draws_it_and_hostile_reasons_stay_text(factory: ModuleType) -> None:
    log = conditions(hot(0.0), hot(1.0, factory.ATTACK), hot(2.0), held_back={factory.ATTACK: 0.3})
    one = factory.submission({**factory.record_data(), "conditions": log.model_dump(mode="json")})
    table = make_table(rank_entries([one]), "single-stream")
    html = run_html(one, describe_run(one), table)
    assert html.count("MHz over s") == 1
    assert html.count("°C over s") == 1
    assert "<script" not in html
    assert "<img" not in html
