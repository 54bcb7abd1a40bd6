"""Runs: the blocks of queries that a test asks for, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Protocol

from edgebench import stats
from edgebench.audit.auditee import LogitsPair
from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure
from edgebench.audit.library import Library
from edgebench.loadgen import SampleTiming

Part = Literal["submitted", "perturbed", "reference"]
Wants = Literal["answers", "first-tokens", "logits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One block: queries issued one after another, to one part of the system, under one name."""

    name: str
    library: Library = field(repr=False)
    queries: tuple[tuple[int, ...], ...]
    part: Part = "submitted"
    session: str = ""
    """Runs of one session of a test meet one system under test; another session, a fresh one."""
    wants: Wants = "answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One answered query: the samples' timings in issue order, all issued at one moment."""

    block: int
    """The place of its run among all of the test's."""
    timings: tuple[SampleTiming, ...]
    round: int = 0
    """A test that was unsure runs another round."""
    reported: Mapping[int, int] = field(default_factory=dict)
    """Place in the query -> tokens that the system itself reported; empty where it does not."""

    @property
    def key(self) -> tuple[int, tuple[int, ...]]:
        """The round and the samples, by index: what two queries must share to be compared."""
        return self.round, tuple(sorted(timing.sample for timing in self.timings))

    @property
    def latency_ns(self) -> int:
        """Issue to last completion."""
        return max(t.completed_ns for t in self.timings) - self.timings[0].issued_ns

    @property
    def ttft_ns(self) -> int:
        """Issue to the first token of all."""
        return min(t.first_token_ns for t in self.timings) - self.timings[0].issued_ns

    @property
    def tpot_ns(self) -> float | None:
        """Time per output token after the first; None of one token, or of many samples."""
        if len(self.timings) > 1:
            return None
        return stats.tpot_ns(self.latency_ns, self.ttft_ns, len(self.timings[0].output_ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that a test's runs gave."""

    queries: Mapping[str, Sequence[Query]] = field(default_factory=dict)
    first_tokens: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Run -> sample -> token."""
    logits: Mapping[str, Sequence[LogitsPair]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    """Run -> why the auditee does not support it."""

    def timings(self, name: str) -> Iterator[SampleTiming]:
        """Every answered sample of the runs of one name."""
        for query in self.queries.get(name, ()):
            yield from query.timings

    def outputs(self, name: str) -> dict[int, tuple[int, ...]]:
        """Sample -> output ids; of a sample that ran twice, the last."""
        return {timing.sample: timing.output_ids for timing in self.timings(name)}

    def score(self, name: str, library: Library) -> tuple[int, int]:
        """How many answers were right, of how many."""
        right = [library.answers.is_right(t.sample, t.output_ids) for t in self.timings(name)]
        return sum(right), len(right)


class AuditTest(Protocol):
    """One test: what it runs, and what it concludes. Both are functions of what they are given."""

    @property
    def name(self) -> str:
        """What `--tests` takes."""

    @property
    def catches(self) -> str:
        """What the test is there for, in a few words."""

    def plan_runs(self, case: Case) -> list[Run]:
        """The blocks to run, in order. Raises NotSupported with the reason."""

    def verify(self, case: Case, results: Results) -> list[Measure]:
        """Judge the results."""


def alternated(names: tuple[str, str], units: Mapping[str, Sequence[Run]]) -> list[Run]:
    """Order the blocks of two names A B B A A B B A ..., so that a steady drift hits both alike."""
    order: list[Run] = []
    for number, pair in enumerate(zip(units[names[0]], units[names[1]], strict=True)):
        order.extend(pair if number % 2 == 0 else reversed(pair))
    return order


def blocks_of(queries: Sequence[tuple[int, ...]], blocks: int) -> list[tuple[tuple[int, ...], ...]]:
    """Cut queries into so many blocks, or as many as there are queries, equal but for one."""
    count = min(blocks, len(queries))
    edges = [len(queries) * edge // count for edge in range(count + 1)]
    return [tuple(queries[a:b]) for a, b in pairwise(edges)]
