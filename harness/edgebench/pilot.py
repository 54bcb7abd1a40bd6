"""The pilot: a few paired queries or small rounds that say how long a scenario takes, how steady.

Its times plan a run and size its blocks; no published number comes from it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgebench.job import AnyEngine, sut_of
from edgebench.loadgen import Clock, SystemUnderTest, run_offline, run_single_stream
from edgebench.prepared import PreparedWorkload
from edgebench.record import Kernel, Scenario
from edgebench.units import NS_PER_S

WARM_UP = 2  # single-stream pairs that do not count
MIN_PAIRS = 2  # that count
MAX_PAIRS = 32
ENOUGH_S = 4.0  # no further pair begins after this long
ROUND_SAMPLES = 16  # of the first pilot round: a small batch is slower per sample, so it errs high
ROUND_GROWTH = 4  # of the rounds on a machine to which those are nothing
LONG_ROUND_S = 0.25  # they grow no more once one lasts this long
MAX_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """What was probed: ns per sample of each kernel, and the speedup of each pair."""

    per_sample_ns: Mapping[Kernel, int]
    fastest_ns: Mapping[Kernel, int]
    """The fastest of them: blocks sized by it last long enough, for whoever disturbs only adds."""
    ratios: tuple[float, ...]
    """fp16 over the other kernel; empty where only one ran."""
    took_s: float
    probed: str
    """In words: '30 queries of each kernel'."""


def run_pilot(
    prepared: PreparedWorkload,
    engines: Mapping[Kernel, AnyEngine],
    scenario: Scenario,
    clock: Clock = time.monotonic_ns,
) -> Pilot:
    """Measure each kernel briefly, in turns over the same samples; raises RunFailed."""
    suts = {kernel: sut_of(prepared, engine) for kernel, engine in engines.items()}
    if scenario == "single-stream":
        return pilot_of(suts, _one_query(clock), prepared.scored_count, clock)
    population = prepared.scored_count
    size = fitting_round(suts, population, clock)
    return pilot_of(suts, _one_round(size, clock), population, clock, in_round=size)


def fitting_round(suts: Mapping[Kernel, SystemUnderTest], population: int, clock: Clock) -> int:
    """How many samples a pilot round holds: so many that the slowest kernel takes a while."""
    size = min(ROUND_SAMPLES, population)
    while size < population:
        step = _one_round(size, clock)
        slowest_ns = max(step(sut, 0, population) for sut in suts.values()) * size
        if slowest_ns >= LONG_ROUND_S * NS_PER_S:
            break
        size = min(size * ROUND_GROWTH, population)
    return size


Step = Callable[[SystemUnderTest, int, int], float]
"""(system under test, number of the pair, size of the scored set) -> ns per sample."""


def _one_query(clock: Clock) -> Step:
    def step(sut: SystemUnderTest, number: int, population: int) -> float:
        (timing,) = run_single_stream(sut, [number % population], clock)
        return timing.completed_ns - timing.issued_ns

    return step


def _one_round(size: int, clock: Clock) -> Step:
    def step(sut: SystemUnderTest, number: int, population: int) -> float:
        samples = [(number * size + place) % population for place in range(size)]
        begin_ns = clock()
        run_offline(sut, samples, clock)
        return (clock() - begin_ns) / size

    return step


def pilot_of(
    suts: Mapping[Kernel, SystemUnderTest],
    step: Step,
    population: int,
    clock: Clock,
    *,
    in_round: int | None = None,
) -> Pilot:
    """Repeat the step on every kernel until enough pairs are there or enough time has passed.

    A step is one query, or a round of `in_round` samples.
    """
    most, warm_up = (MAX_ROUNDS, 0) if in_round else (WARM_UP + MAX_PAIRS, WARM_UP)
    least = 1 if in_round else WARM_UP + MIN_PAIRS
    begun_ns = clock()
    times: dict[Kernel, list[float]] = {kernel: [] for kernel in suts}
    for number in range(most):
        if number >= least and clock() - begun_ns > ENOUGH_S * NS_PER_S:
            break
        for kernel in suts if number % 2 == 0 else reversed(list(suts)):
            times[kernel].append(max(1.0, step(suts[kernel], number, population)))
    kept = {kernel: own[warm_up:] for kernel, own in times.items()}
    pairs = len(next(iter(kept.values())))
    what = f"rounds of {in_round} samples" if in_round else "queries"
    return Pilot(
        per_sample_ns={kernel: round(statistics.median(own)) for kernel, own in kept.items()},
        fastest_ns={kernel: round(min(own)) for kernel, own in kept.items()},
        ratios=_ratios(kept),
        took_s=(clock() - begun_ns) / NS_PER_S,
        probed=f"{pairs} {what} of each kernel",
    )


def _ratios(times: Mapping[Kernel, list[float]]) -> tuple[float, ...]:
    others = [own for kernel, own in times.items() if kernel != "fp16"]
    if "fp16" not in times or not others:
        return ()
    return tuple(slow / fast for slow, fast in zip(times["fp16"], others[0], strict=True))
