"""The load generator: issues samples to a system under test and times every answer.

MLPerf LoadGen's semantics (github.com/mlcommons/inference, loadgen/) without its traps: an error of
the system under test is an exception, Ctrl-C is obeyed at once, a one-token answer has no TPOT, and
latency is never the TTFT. Single-stream issues the next query when the previous one completed;
offline issues one query with every sample. Latency is issue -> completion, and the generator's own
time between queries is charged to nobody. A query that failed leaves no timing behind.
"""

from __future__ import annotations

import operator
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from edgebench.errors import RunFailed

Clock = Callable[[], int]  # monotonic ns; meters sample on the same clock


@dataclass(frozen=True, slots=True)
class QuerySample:
    """One sample of a query: the id that the callbacks take, and its index in the library."""

    id: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTiming:
    """One answered sample. `position` counts within the run that produced it, in issue order."""

    position: int
    sample: int
    issued_ns: int
    first_token_ns: int
    completed_ns: int
    output_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """When a measurement is long enough: so many queries AND so much measured time."""

    queries: int
    duration_ns: int = 0
    multiple: int = 1
    """Queries of one pass over the set: it ends only after whole ones (equal issue)."""

    def is_met(self, queries: int, measured_ns: int) -> bool:
        """Whether all demands hold; measured_ns is time on the clock, never a setting."""
        enough = queries >= self.queries and measured_ns >= self.duration_ns
        return enough and queries % self.multiple == 0


class SystemUnderTest(Protocol):
    """What answers queries: a model on a device behind two callbacks."""

    name: str

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        """Answer every sample, then return.

        first_token takes the QuerySample's id when its first output token exists, complete the id
        and all output token ids, end-of-sequence included. Answers may come in any order and from
        any thread. An answer of one token may leave first_token out.
        """


class SampleLibrary(Protocol):
    """Where samples live; they are in memory before the clock starts."""

    total_count: int
    performance_count: int

    def load(self, indices: Sequence[int]) -> None:
        """Bring samples into memory, untimed."""

    def unload(self, indices: Sequence[int]) -> None:
        """Let go of them."""


@contextmanager
def loaded(library: SampleLibrary, indices: Sequence[int]) -> Iterator[None]:
    """Hold the distinct samples of a schedule in memory, outside the timed region."""
    distinct = sorted(set(indices))
    library.load(distinct)
    try:
        yield
    finally:
        library.unload(distinct)


def issue_order(seed: int, population: int, distinct: bool) -> Iterator[int]:
    """Yield sample indices below `population` for a performance run, without end.

    distinct=False: uniform with replacement, as LoadGen does for inputs of one size. distinct=True:
    whole random permutations one after another ('equal issue', which MLPerf prescribes for inputs
    of many sizes): no sample comes an n+1st time before every sample came n times, and the first
    `population` are drawn without replacement.

    Reproducible on every machine and Python: mt19937 seeded by random.Random, of which only raw
    getrandbits is used, with rejection; so the sequence is not LoadGen's for the same seed.
    """
    if population < 1 or seed < 0:
        raise ValueError(
            "[loadgen] expected a positive population and a seed that is not negative, "
            f"got population={population} and seed={seed}"
        )
    source = random.Random(seed)
    while True:
        if distinct:
            yield from _permutation(source, population)
        else:
            yield _below(source, population)


def sample_schedule(seed: int, population: int, count: int, distinct: bool) -> tuple[int, ...]:
    """Return the first `count` of issue_order: a longer schedule begins with the shorter."""
    if count < 0:
        raise ValueError(f"[loadgen] expected a count of samples to issue, got {count}")
    return tuple(islice(issue_order(seed, population, distinct), count))


def accuracy_schedule(population: int) -> tuple[int, ...]:
    """Return what an accuracy run issues: every sample once, in order."""
    return tuple(range(population))


def equal_issue_count(count: int, population: int) -> int:
    """Round a count up to whole permutations, so that every sample is issued equally often."""
    return -(-count // population) * population


def run_single_stream(
    sut: SystemUnderTest, indices: Sequence[int], clock: Clock = time.monotonic_ns
) -> Iterator[SampleTiming]:
    """Yield one timing per index; the next query is issued when the caller asks for the next one.

    Raises RunFailed if the system under test raises or breaks the protocol.
    """
    answers = _Answers(sut.name, clock)
    for position, index in enumerate(indices):
        yield from answers.of(sut, [QuerySample(position, index)])


def run_offline(
    sut: SystemUnderTest, indices: Sequence[int], clock: Clock = time.monotonic_ns
) -> list[SampleTiming]:
    """Issue all indices as one query and return their timings in issue order.

    Raises RunFailed if the system under test raises or breaks the protocol.
    """
    samples = [QuerySample(position, index) for position, index in enumerate(indices)]
    return _Answers(sut.name, clock).of(sut, samples) if samples else []


class _Answers:
    """Takes the system under test's callbacks and turns them into timings, or into one RunFailed.

    A callback never raises: a fault is kept until the query ends, so that no system under test can
    swallow it and no worker thread dies of it.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._open: set[int] = set()
        self._first_ns: dict[int, int] = {}
        self._completed: dict[int, tuple[int, Sequence[int]]] = {}
        self._fault: str | None = None

    def of(self, sut: SystemUnderTest, samples: Sequence[QuerySample]) -> list[SampleTiming]:
        """Issue one query and return its timings in issue order."""
        self._open = {sample.id for sample in samples}
        issued_ns = self._clock()
        try:
            sut.issue_query(samples, self._first_token, self._complete)
        except Exception as err:
            raise RunFailed(
                f"[loadgen] {self._name} raised {type(err).__name__} on {_named(samples)}: {err}"
            ) from err
        if self._fault is None and self._open:
            missing = [sample for sample in samples if sample.id in self._open]
            self._fault = f"issue_query returned without completing {_named(missing)}"
        if self._fault is not None:
            raise self._failure(self._fault)
        timings = [self._timing(sample, issued_ns) for sample in samples]
        self._first_ns.clear()
        self._completed.clear()
        return timings

    def _first_token(self, sample_id: int) -> None:
        now_ns = self._clock()
        if sample_id not in self._open:
            self._keep(f"first_token came for sample id {sample_id!r}, which is not under way")
        elif sample_id in self._first_ns:
            self._keep(f"first_token came twice for sample id {sample_id}")
        else:
            self._first_ns[sample_id] = now_ns

    def _complete(self, sample_id: int, output_ids: Sequence[int]) -> None:
        now_ns = self._clock()
        if sample_id not in self._open:
            self._keep(f"complete came for sample id {sample_id!r}, which is not under way")
            return
        self._completed[sample_id] = (now_ns, output_ids)
        self._open.discard(sample_id)

    def _keep(self, fault: str) -> None:
        self._fault = self._fault or fault

    def _timing(self, sample: QuerySample, issued_ns: int) -> SampleTiming:
        completed_ns, given_ids = self._completed[sample.id]
        try:
            output_ids = tuple(operator.index(token) for token in given_ids)
        except TypeError as err:
            raise self._failure(f"output ids of {_named([sample])} are no integers") from err
        if not output_ids:
            raise self._failure(f"{_named([sample])} was answered with no token at all")
        if sample.id not in self._first_ns and len(output_ids) > 1:
            raise self._failure(f"first_token never came for {_named([sample])}")
        first_token_ns = self._first_ns.get(sample.id, completed_ns)
        if not issued_ns <= first_token_ns <= completed_ns:
            raise self._failure(f"the clock ran backwards on {_named([sample])}")
        return SampleTiming(
            position=sample.id,
            sample=sample.index,
            issued_ns=issued_ns,
            first_token_ns=first_token_ns,
            completed_ns=completed_ns,
            output_ids=output_ids,
        )

    def _failure(self, fault: str) -> RunFailed:
        return RunFailed(
            f"[loadgen] {self._name} must answer every sample exactly once: {fault}; "
            "mend the system under test, then run again"
        )


def _named(samples: Sequence[QuerySample]) -> str:
    """Name samples for an error, a few of many."""
    shown = ", ".join(str(sample.index) for sample in samples[:5])
    more = f" and {len(samples) - 5} more" if len(samples) > 5 else ""
    return f"sample {shown}{more}"


def _below(source: random.Random, bound: int) -> int:
    """Draw uniformly from range(bound): the fewest bits that can hold it, drawn until it fits."""
    bits = (bound - 1).bit_length()
    while (drawn := source.getrandbits(bits) if bits else 0) >= bound:
        pass
    return drawn


def _permutation(source: random.Random, size: int) -> list[int]:
    """Shuffle range(size): Fisher-Yates from the front."""
    order = list(range(size))
    for position in range(size - 1):
        other = position + _below(source, size - position)
        order[position], order[other] = order[other], order[position]
    return order
