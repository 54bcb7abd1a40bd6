"""The load generator: who is charged for what, and every way to break the protocol."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

import pytest

from edgebench.errors import RunFailed
from edgebench.loadgen import (
    Minimum,
    QuerySample,
    accuracy_schedule,
    equal_issue_count,
    issue_order,
    loaded,
    run_offline,
    run_single_stream,
    sample_schedule,
)

FirstToken = Callable[[int], None]
Complete = Callable[[int, Sequence[int]], None]
Answer = Callable[[Sequence[QuerySample], FirstToken, Complete], None]


class ScriptedSut:
    """Does with a query whatever a test says."""

    name = "scripted"

    def __init__(self, answer: Answer) -> None:
        self.issue_query = answer


class Ticking:
    """A clock that moves one ns at each reading."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


class WaitingSut:
    """Takes 100 ns to the first token, then 10 ns a token, and answers index + 1 tokens."""

    name = "waiting"

    def __init__(self, clock: Ticking) -> None:
        self._clock = clock

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        for sample in samples:
            self._clock.now_ns += 100
            first_token(sample.id)
            self._clock.now_ns += 10 * sample.index
            complete(sample.id, [5] * (sample.index + 1))


# --- schedules


def test_schedule_is_pinned_for_every_machine_and_python() -> None:
    # Golden: mt19937 with init_by_array seeding; regenerate by printing the two calls.
    seed = 2747215439041700203
    assert sample_schedule(seed, 1000, 8, distinct=False) == (
        436,
        552,
        835,
        464,
        657,
        897,
        994,
        613,
    )
    assert sample_schedule(seed, 1000, 8, distinct=True) == (436, 553, 837, 467, 661, 902, 619, 305)


@pytest.mark.parametrize("distinct", [True, False])
def test_a_longer_schedule_begins_with_the_shorter(distinct: bool) -> None:
    longer = sample_schedule(7, 100, 250, distinct)
    assert len(longer) == 250
    assert sample_schedule(7, 100, 40, distinct) == longer[:40]
    assert sample_schedule(8, 100, 250, distinct) != longer


def test_equal_issue_exhausts_the_population_before_it_repeats() -> None:
    schedule = sample_schedule(3, 100, 250, distinct=True)
    assert sorted(schedule[:100]) == sorted(schedule[100:200]) == list(range(100))
    assert schedule[:100] != schedule[100:200]
    assert set(Counter(schedule).values()) == {2, 3}
    assert len(set(sample_schedule(3, 1000, 512, distinct=True))) == 512


@pytest.mark.parametrize("distinct", [True, False])
def test_the_issue_order_has_no_end_and_begins_every_schedule(distinct: bool) -> None:
    endless = islice(issue_order(5, 10, distinct), 37)
    assert tuple(endless) == sample_schedule(5, 10, 37, distinct)


def test_uniform_draws_are_uniform() -> None:
    # chi-square over 10 cells with 9 degrees of freedom: P[> 27.9] = 0.1 %
    counts = Counter(sample_schedule(11, 10, 10_000, distinct=False))
    assert sorted(counts) == list(range(10))
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 27.9


def test_first_of_a_permutation_is_uniform() -> None:
    # Fisher-Yates from the front, as above over 10 cells and 10,000 seeds.
    counts = Counter(sample_schedule(seed, 10, 1, distinct=True)[0] for seed in range(10_000))
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 27.9


def test_a_population_of_one() -> None:
    assert sample_schedule(1, 1, 3, distinct=True) == (0, 0, 0)
    assert sample_schedule(1, 1, 3, distinct=False) == (0, 0, 0)


@pytest.mark.parametrize(("seed", "population", "count"), [(-1, 5, 5), (1, 0, 5), (1, 5, -1)])
def test_impossible_schedules_are_refused(seed: int, population: int, count: int) -> None:
    with pytest.raises(ValueError, match=r"\[loadgen\] expected a (count|positive population)"):
        sample_schedule(seed, population, count, distinct=True)


def test_accuracy_mode_is_every_sample_once_in_order() -> None:
    assert accuracy_schedule(4) == (0, 1, 2, 3)


def test_equal_issue_count_rounds_up_to_whole_permutations() -> None:
    assert [equal_issue_count(count, 1000) for count in (1, 1000, 1024)] == [1000, 1000, 2000]


def test_loaded_holds_each_sample_once_and_lets_go_after_a_failure() -> None:
    class Library:
        total_count = performance_count = 10
        calls: list[tuple[str, list[int]]] = []  # noqa: RUF012  one test's own class

        def load(self, indices: Sequence[int]) -> None:
            self.calls.append(("load", list(indices)))

        def unload(self, indices: Sequence[int]) -> None:
            self.calls.append(("unload", list(indices)))

    library = Library()
    with pytest.raises(RunFailed, match="broken"), loaded(library, [3, 1, 3]):
        raise RunFailed("broken")
    assert library.calls == [("load", [1, 3]), ("unload", [1, 3])]


def test_minimum_is_an_and_over_measured_time() -> None:
    minimum = Minimum(queries=1024, duration_ns=600_000_000_000)
    assert minimum.is_met(1024, 600_000_000_000)
    assert not minimum.is_met(1023, 900_000_000_000)
    assert not minimum.is_met(9999, 599_999_999_999)


# --- timing


def test_single_stream_charges_issue_to_completion() -> None:
    clock = Ticking()
    timings = list(run_single_stream(WaitingSut(clock), [4, 0], clock))
    assert [timing.sample for timing in timings] == [4, 0]
    assert [timing.position for timing in timings] == [0, 1]
    assert [timing.output_ids for timing in timings] == [(5,) * 5, (5,)]
    first = timings[0]
    assert first.first_token_ns - first.issued_ns == 101  # not charged: what came before issue
    assert first.completed_ns - first.issued_ns == 101 + 41  # the whole answer, not the TTFT


def test_single_stream_does_not_charge_the_time_between_queries() -> None:
    clock = Ticking()
    latencies = []
    for timing in run_single_stream(WaitingSut(clock), [2, 2, 2], clock):
        latencies.append(timing.completed_ns - timing.issued_ns)
        clock.now_ns += 1_000_000  # the caller draws a progress bar
    assert latencies == [122, 122, 122]


def test_single_stream_issues_nothing_before_it_is_asked() -> None:
    issued = []

    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        issued.append(samples[0].index)
        complete(samples[0].id, [1])

    timings = run_single_stream(ScriptedSut(answer), [8, 9], Ticking())
    assert issued == []
    next(timings)
    assert issued == [8]


def test_offline_issues_one_query_and_returns_issue_order() -> None:
    clock = Ticking()
    seen: list[list[int]] = []

    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        seen.append([sample.index for sample in samples])
        for sample in reversed(samples):
            first(sample.id)
            complete(sample.id, [sample.index, 2])

    timings = run_offline(ScriptedSut(answer), [7, 5, 7], clock)
    assert seen == [[7, 5, 7]]
    assert [timing.sample for timing in timings] == [7, 5, 7]
    assert len({timing.issued_ns for timing in timings}) == 1
    assert timings[0].completed_ns > timings[2].completed_ns
    assert run_offline(ScriptedSut(answer), [], clock) == []
    assert len(seen) == 1


def test_a_one_token_answer_may_leave_first_token_out() -> None:
    sut = ScriptedSut(lambda samples, first, complete: complete(samples[0].id, [1]))
    (timing,) = run_single_stream(sut, [0], Ticking())
    assert timing.first_token_ns == timing.completed_ns > timing.issued_ns


def test_answers_may_come_from_threads() -> None:
    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        def work(sample: QuerySample) -> None:
            first(sample.id)
            complete(sample.id, [sample.index, 0])

        threads = [threading.Thread(target=work, args=(sample,)) for sample in samples]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    timings = run_offline(ScriptedSut(answer), range(20), Ticking())
    assert [timing.output_ids for timing in timings] == [(index, 0) for index in range(20)]


def test_the_system_may_reuse_its_output_buffer_type() -> None:
    class Token:
        def __index__(self) -> int:
            return 42

    sut = ScriptedSut(lambda samples, first, complete: complete(samples[0].id, [Token()]))  # type: ignore[list-item]
    (timing,) = run_single_stream(sut, [0], Ticking())
    assert timing.output_ids == (42,)


# --- faults


def test_an_exception_becomes_run_failed_with_its_context() -> None:
    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        if samples[0].index == 12:
            raise ZeroDivisionError("no scale")
        complete(samples[0].id, [1])

    timings = run_single_stream(ScriptedSut(answer), [11, 12, 13], Ticking())
    assert next(timings).sample == 11  # what came before the failure is kept
    with pytest.raises(RunFailed, match="scripted raised ZeroDivisionError on sample 12: no scale"):
        next(timings)


def test_an_offline_failure_names_a_few_samples_of_many() -> None:
    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        raise MemoryError("batch too large")

    with pytest.raises(RunFailed, match=r"sample 0, 1, 2, 3, 4 and 59 more: batch too large"):
        run_offline(ScriptedSut(answer), range(64), Ticking())


def test_keyboard_interrupt_passes_through() -> None:
    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_single_stream(ScriptedSut(answer), [0], Ticking()))


def never(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
    first(samples[0].id)


def twice(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
    complete(samples[0].id, [1])
    complete(samples[0].id, [1])


def stranger(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
    complete(samples[0].id, [1])
    complete(999, [1])


def first_token_twice(
    samples: Sequence[QuerySample], first: FirstToken, complete: Complete
) -> None:
    first(samples[0].id)
    first(samples[0].id)
    complete(samples[0].id, [1, 2])


def first_token_after(
    samples: Sequence[QuerySample], first: FirstToken, complete: Complete
) -> None:
    complete(samples[0].id, [1])
    first(samples[0].id)


def first_token_never(
    samples: Sequence[QuerySample], first: FirstToken, complete: Complete
) -> None:
    complete(samples[0].id, [1, 2])


def no_token(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
    complete(samples[0].id, [])


def words(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
    complete(samples[0].id, ["one"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (never, "issue_query returned without completing sample 5"),
        (twice, "complete came for sample id 0, which is not under way"),
        (stranger, "complete came for sample id 999, which is not under way"),
        (first_token_twice, "first_token came twice for sample id 0"),
        (first_token_after, "first_token came for sample id 0, which is not under way"),
        (first_token_never, "first_token never came for sample 5"),
        (no_token, "sample 5 was answered with no token at all"),
        (words, "output ids of sample 5 are no integers"),
    ],
)
def test_a_broken_protocol_fails_the_run(answer: Answer, fault: str) -> None:
    with pytest.raises(RunFailed, match=rf"answer every sample exactly once: {fault}"):
        run_offline(ScriptedSut(answer), [5], Ticking())


def test_an_answer_to_an_earlier_query_is_found_out() -> None:
    held: list[Complete] = []

    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        held.append(complete)
        if samples[0].id == 1:
            held[0](0, [1])  # once more for the query before
        complete(samples[0].id, [1])

    with pytest.raises(RunFailed, match="complete came for sample id 0"):
        list(run_single_stream(ScriptedSut(answer), [5, 6], Ticking()))


def test_a_fault_survives_a_system_that_swallows_exceptions() -> None:
    def answer(samples: Sequence[QuerySample], first: FirstToken, complete: Complete) -> None:
        try:
            twice(samples, first, complete)
        except BaseException:  # noqa: BLE001  that is the point
            return

    with pytest.raises(RunFailed, match="complete came for sample id 0"):
        run_offline(ScriptedSut(answer), [5], Ticking())


def test_a_clock_that_runs_backwards_fails_the_run() -> None:
    readings = iter([100, 50])
    sut = ScriptedSut(lambda samples, first, complete: complete(samples[0].id, [1]))
    with pytest.raises(RunFailed, match="the clock ran backwards on sample 0"):
        run_offline(sut, [0], lambda: next(readings))
