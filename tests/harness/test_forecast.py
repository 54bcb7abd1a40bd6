"""Plans: how long a scenario takes, what its counts buy, and what a pilot says of both."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence

import pytest

from edgebench.confidence import expected_interval, percentile_words
from edgebench.estimate import estimate_scenario
from edgebench.forecast import forecast
from edgebench.loadgen import QuerySample
from edgebench.pilot import ENOUGH_S, MAX_PAIRS, MAX_ROUNDS, Pilot, fitting_round, pilot_of
from edgebench.profiles import PROFILES
from edgebench.record import Kernel
from edgebench.stats import median_confidence_interval

MS = 1_000_000
COST: dict[Kernel, int] = {"fp16": 20 * MS, "int4": 5 * MS}


# --- estimates


def test_a_counted_scenario_is_its_queries_its_accuracy_and_its_likelihood() -> None:
    counts = PROFILES["quick"].counts("assistant", "single-stream")
    found = estimate_scenario("single-stream", counts, 1000, COST)
    assert found.queries == {"fp16": 512, "int4": 512}
    assert found.measure_s == pytest.approx(512 * 0.025)
    assert found.pairs == 16  # of 32 queries: 0.63 s on fp16
    fast = estimate_scenario("single-stream", counts, 1000, {"fp16": 2 * MS, "int4": MS})
    assert fast.queries == {"fp16": 16 * 313, "int4": 16 * 313}
    assert found.accuracy_s == pytest.approx(25.0)
    assert found.likelihood_s == pytest.approx(0.3 * 25.0)
    assert found.total_s == pytest.approx(12.8 + 25 + 7.5 + 9 * 0.6)


def test_a_power_meter_wants_every_block_to_last() -> None:
    counts = PROFILES["quick"].counts("assistant", "single-stream")
    found = estimate_scenario("single-stream", counts, 1000, COST, is_metered=True)
    assert found.queries == {"fp16": 3000, "int4": 3000}  # six blocks of 2.5 s on int4


def test_official_runs_each_kernel_to_its_own_600_s_in_whole_passes() -> None:
    counts = PROFILES["official"].counts("assistant", "single-stream")
    found = estimate_scenario("single-stream", counts, 1000, COST)
    assert found.queries == {"fp16": 30_000, "int4": 120_000}
    assert found.measure_s == pytest.approx(1200.0)
    assert found.pairs == 60  # of 500 queries: 2.5 s on int4
    slow = estimate_scenario("single-stream", counts, 1000, {"fp16": 10_000 * MS, "int4": 900 * MS})
    assert slow.queries == {"fp16": 2000, "int4": 2000}  # 1,024 queries are two passes
    assert slow.measure_s == pytest.approx(2000 * 10.9)


def test_offline_counts_rounds_of_the_whole_set_or_of_the_profiles_size() -> None:
    counts = PROFILES["quick"].counts("assistant", "offline")
    whole = estimate_scenario("offline", counts, 1000, COST)
    assert whole.queries == {"fp16": 6, "int4": 6}
    assert whole.measure_s == pytest.approx(6 * 1000 * 0.025)
    large = PROFILES["quick"].counts("assistant@1b", "offline")
    found = estimate_scenario("offline", large, 1000, COST)
    assert found.measure_s == pytest.approx(6 * 7 * 64 * 0.025)  # 64 of int4 take but 0.32 s
    assert found.accuracy_s == 0
    assert found.likelihood_s == pytest.approx(64 * 0.025)
    official = PROFILES["official"].counts("assistant@1b", "offline")
    few = estimate_scenario("offline", counts, 10, COST)
    assert few.measure_s == pytest.approx(6 * 40 * 10 * 0.025)  # 40 times all of them: 2 s of int4
    assert estimate_scenario("offline", official, 1000, COST).queries == {"fp16": 30, "int4": 120}


# --- confidence


@pytest.mark.parametrize(
    ("queries", "said", "unsaid"),
    [
        (63, ("no p90 (needs 64 queries)", "no p99 (needs 662 queries)"), "p90 at"),
        (64, ("p90 at 99 % confidence, read off at 98.4 % of them",), "no p90"),
        (661, ("p90 at 99 % confidence", "no p99 (needs 662 queries)"), "p99 at"),
        (662, ("p90 at", "p99 at 99 % confidence, read off at 99.8 % of them"), "no p"),
    ],
)
def test_percentiles_are_promised_from_their_first_query_on(
    queries: int, said: tuple[str, ...], unsaid: str
) -> None:
    words = percentile_words(queries)
    assert all(part in words for part in said), words
    assert unsaid not in words


@pytest.mark.parametrize("pairs", [6, 40, 512])
def test_the_expected_interval_is_as_wide_as_the_intervals_that_come(pairs: int) -> None:
    """2,000 runs of so many pairs: the mean ends of their intervals, within 3 % of the spread."""
    source = random.Random(7)
    spread, middle = 0.2, 3.0

    def draw(count: int) -> list[float]:
        return [middle * 2.718281828 ** source.gauss(0, spread) for _ in range(count)]

    intervals = [median_confidence_interval(draw(pairs)) for _ in range(2000)]
    lows, highs = zip(*[ends for ends in intervals if ends is not None], strict=True)
    expected = expected_interval(draw(20_000), pairs)
    assert expected is not None
    assert expected[0] == pytest.approx(statistics.median(lows), rel=0.03)
    assert expected[1] == pytest.approx(statistics.median(highs), rel=0.03)


@pytest.mark.parametrize(("ratios", "pairs"), [((2.0, 2.1), 100), ((2.0, 2.1, 2.2), 5), ((), 9)])
def test_no_interval_is_promised_from_nothing(ratios: tuple[float, ...], pairs: int) -> None:
    assert expected_interval(ratios, pairs) is None


# --- the pilot


class Clock:
    """Time that passes only while somebody works."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Sut:
    """Costs what it is told; the first two queries cost tenfold, as a cold kernel does."""

    def __init__(self, clock: Clock, name: str, cost_ns: int) -> None:
        self.name, self._clock, self._cost_ns, self._seen = name, clock, cost_ns, 0

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        raise AssertionError("the step of the test works instead")

    def step(self) -> float:
        self._seen += 1
        cost = self._cost_ns * (10 if self._seen <= 2 else 1)
        self._clock.now_ns += cost
        return cost


def pilot(cost: dict[Kernel, int], *, in_round: int | None = None) -> Pilot:
    clock = Clock()
    suts = {kernel: Sut(clock, kernel, each) for kernel, each in cost.items()}
    return pilot_of(suts, lambda sut, *_: sut.step(), 100, clock, in_round=in_round)  # type: ignore[attr-defined]


def test_a_pilot_pairs_the_kernels_and_leaves_the_warm_up_out() -> None:
    found = pilot(COST)
    assert found.per_sample_ns == found.fastest_ns == COST
    assert found.ratios == (4.0,) * MAX_PAIRS
    assert found.probed == f"{MAX_PAIRS} queries of each kernel"
    assert found.took_s == pytest.approx((2 * 10 + MAX_PAIRS) * 0.025)


def test_a_pilot_of_a_slow_model_stops_after_two_pairs() -> None:
    found = pilot({"fp16": 1000 * MS, "int4": 500 * MS})
    assert found.ratios == (2.0, 2.0)
    assert found.took_s > ENOUGH_S


def test_an_offline_pilot_repeats_small_rounds() -> None:
    found = pilot({"fp16": 2 * MS, "int4": MS}, in_round=16)
    assert len(found.ratios) == MAX_ROUNDS
    assert found.probed == "4 rounds of 16 samples of each kernel"


class Batch(Sut):
    """Answers a round at a cost per sample."""

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        for sample in samples:
            self._clock.now_ns += self._cost_ns
            complete(sample.id, [1])


@pytest.mark.parametrize(("cost_ns", "size"), [(100 * MS, 16), (2 * MS, 256), (MS // 100, 1000)])
def test_pilot_rounds_grow_until_the_slowest_kernel_takes_a_while(cost_ns: int, size: int) -> None:
    clock = Clock()
    suts = {kernel: Batch(clock, kernel, each) for kernel, each in
            {"fp16": cost_ns, "int4": cost_ns // 4}.items()}  # fmt: skip
    assert fitting_round(suts, 1000, clock) == size


# --- the forecast


def planned(**changes: object) -> Pilot:
    facts: dict[str, object] = {
        "per_sample_ns": COST,
        "fastest_ns": COST,
        "ratios": (3.8, 4.0, 4.2),
        "took_s": 1.0,
        "probed": "3 queries",
    }
    return Pilot(**{**facts, **changes})  # type: ignore[arg-type]


def test_what_does_not_fit_names_the_budget_that_would_do() -> None:
    found = forecast("assistant", "single-stream", "official", 1000, planned())
    assert found.shortage(100.0, None) is None
    assert found.shortage(0.0, found.estimate.total_s) is None
    said = found.shortage(100.0, 600.0)
    assert said is not None
    needed_min = -(-(100.0 + found.estimate.total_s) // 60)
    assert f"--budget {needed_min:.0f}m would do" in said
    assert "8 min 20 s of the budget are left" in said


def test_a_forecast_says_what_it_buys_and_what_it_rests_on() -> None:
    single = forecast("assistant", "single-stream", "quick", 1000, planned()).summary
    assert "512 queries: p90 at 99 % confidence" in single
    assert "16 pairs of blocks: speedup within about" in single
    assert "(from 3 queries, 1.0 s)" in single
    offline = forecast("assistant", "offline", "quick", 1000, planned(ratios=(2.0,))).summary
    assert "6 pairs of rounds: no interval of the speedup expected" in offline
