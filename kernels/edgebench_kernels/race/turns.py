"""Timing: contenders take turns, forth and back, each after the others have gone quiet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgebench_kernels import ceilings, native
from edgebench_kernels.race.cases import Contender

QUIET_WINDOW_S = 0.005
QUIET_SHARE = 0.05  # of the window: below it nobody's threads run
LONGEST_WAIT_S = 0.25
SHORTEST_TURN_NS = 20_000_000
FEWEST_CALLS = 2
WARM_ENOUGH_NS = 100_000_000  # a call this long hides its own start


@dataclass(slots=True)
class Times:
    """What the rounds measured of one contender: ns of one product, by round."""

    each_ns: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Rounds:
    """All contenders' times and the ceilings (bytes/s or op/s), round by round."""

    times: dict[str, Times]
    ceilings: dict[str, list[float]]


def take_turns(
    contenders: Mapping[str, Contender], rounds: int, wanted_ceilings: Iterable[str]
) -> Rounds:
    """Time `rounds` rounds; odd rounds go backwards, so that drift meets everybody alike."""
    names = list(contenders)
    result = Rounds({name: Times() for name in names}, {name: [] for name in wanted_ceilings})
    for turn in range(rounds):
        _measure_ceilings(result.ceilings)
        for name in names if turn % 2 == 0 else reversed(names):
            result.times[name].each_ns.append(one_turn(contenders[name]))
    return result


def one_turn(contender: Contender) -> float:
    """Ns of one product: a call that wakes its pool, then calls for at least 20 ms."""
    wait_until_quiet()
    started = time.perf_counter_ns()
    contender.call()
    first_ns = time.perf_counter_ns() - started
    if first_ns >= WARM_ENOUGH_NS:
        return first_ns / contender.products
    calls, taken_ns = 0, 0
    started = time.perf_counter_ns()
    while taken_ns < SHORTEST_TURN_NS or calls < FEWEST_CALLS:
        contender.call()
        calls += 1
        taken_ns = time.perf_counter_ns() - started
    return taken_ns / calls / contender.products


def wait_until_quiet() -> None:
    """Sleep until this process uses no CPU.

    The idle threads of some pools spin: measured after a call, ONNX Runtime's for 45 ms and
    those of GNU's OpenMP for 8 ms, at the cost of whoever comes next.
    """
    give_up = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < give_up:
        used_before = time.process_time()
        time.sleep(QUIET_WINDOW_S)
        if time.process_time() - used_before < QUIET_SHARE * QUIET_WINDOW_S:
            return


def ceilings_of(contenders: Iterable[Contender]) -> Sequence[str]:
    """Read bandwidth and the arithmetic ceilings that apply and that this machine has."""
    names = ["read_bandwidth"]
    for contender in contenders:
        if contender.ceiling is not None and contender.ceiling not in names:
            names.append(contender.ceiling)
    return [name for name in names if _exists(name)]


def _exists(ceiling: str) -> bool:
    try:
        ceilings.measure(ceiling)
    except native.Unavailable:
        return False
    return True


def _measure_ceilings(found: dict[str, list[float]]) -> None:
    wait_until_quiet()
    for name, values in found.items():
        values.append(ceilings.measure(name).value)
