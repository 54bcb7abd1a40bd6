"""Conducting: plans every test, runs its blocks on the auditee, and collects the judgements."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgebench.audit.auditee import Auditee, LogitsPair, NotSupported, ReportsTokens
from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure, Verdict, worst
from edgebench.audit.library import Library
from edgebench.audit.runs import AuditTest, Part, Query, Results, Run
from edgebench.errors import RunFailed
from edgebench.loadgen import (
    Clock,
    SampleTiming,
    SystemUnderTest,
    run_offline,
    run_single_stream,
)
from edgebench.record import Scenario

Update = Callable[[int, int], None]
Parts = Mapping[Part, Auditee]
"""Who stands behind each part; 'perturbed' is the submitted auditee's own."""
ROUNDS = 3  # of a test that is unsure


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one test found on one kernel."""

    test: str
    catches: str
    verdict: Verdict
    measures: tuple[Measure, ...]
    runs: int
    """Blocks that ran."""
    queries: int
    note: str = ""
    """Why it does not apply or could not run."""


class _Steps:
    """Progress in queries; the total grows where a test needs another round."""

    def __init__(self, update: Update, total: int) -> None:
        self._update, self._done, self._total = update, 0, total

    def expect(self, queries: int) -> None:
        """Count on more."""
        self._total += queries

    def finish(self, queries: int) -> None:
        """Say that some are done."""
        self._done += queries
        self._update(self._done, self._total)


@dataclass(slots=True)
class _Collected:
    """What a test's rounds gave so far."""

    queries: dict[str, list[Query]] = field(default_factory=dict)
    first_tokens: dict[str, dict[int, int]] = field(default_factory=dict)
    logits: dict[str, list[LogitsPair]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    blocks: int = 0
    rounds: int = 0

    def results(self) -> Results:
        """As tests take it."""
        return Results(
            queries=self.queries,
            first_tokens=self.first_tokens,
            logits=self.logits,
            missing=self.missing,
        )


def conduct(
    case: Case,
    tests: Sequence[AuditTest],
    parts: Parts,
    update: Update = lambda done, total: None,
    clock: Clock = time.monotonic_ns,
) -> list[Judged]:
    """Run the tests in order and judge each; KeyboardInterrupt passes at once.

    Each round of a test meets systems under test of its own, so nothing that one learned helps in
    another. A test that is unsure runs again, ROUNDS at most, and is judged by all of it. One that
    the auditee does not support, or that fails, says so and the others go on.
    """
    plans = [_plan(test, case) for test in tests]
    steps = _Steps(update, sum(_size(plan) for plan in plans if isinstance(plan, list)))
    return [
        _without(test, "not applicable", plan)
        if isinstance(plan, str)
        else _judge(test, case, plan, parts, steps, clock)
        for test, plan in zip(tests, plans, strict=True)
    ]


def _size(plan: Sequence[Run]) -> int:
    return sum(len(run.queries) for run in plan)


def _plan(test: AuditTest, case: Case) -> list[Run] | str:
    try:
        return test.plan_runs(case)
    except NotSupported as reason:
        return str(reason)


def _without(test: AuditTest, verdict: Verdict, note: str) -> Judged:
    return Judged(
        test=test.name,
        catches=test.catches,
        verdict=verdict,
        measures=(),
        runs=0,
        queries=0,
        note=note,
    )


def _judge(
    test: AuditTest,
    case: Case,
    plan: Sequence[Run],
    parts: Parts,
    steps: _Steps,
    clock: Clock,
) -> Judged:
    got = _Collected()
    queries = 0
    try:
        while True:
            _run_all(plan, parts, case.scenario, got, steps, clock)
            queries += _size(plan)
            measures = test.verify(case, got.results())
            if worst(measures) != "unsure" or got.rounds == ROUNDS:
                break
            plan = test.plan_runs(case.again(got.rounds))
            steps.expect(_size(plan))
    except NotSupported as reason:
        return _without(test, "not applicable", str(reason))
    except RunFailed as err:
        return _without(test, "failed", str(err))
    return Judged(
        test=test.name,
        catches=test.catches,
        verdict=worst(measures),
        measures=tuple(measures),
        runs=got.blocks,
        queries=queries,
    )


def _run_all(
    plan: Sequence[Run],
    parts: Parts,
    scenario: Scenario,
    got: _Collected,
    steps: _Steps,
    clock: Clock,
) -> None:
    suts: dict[tuple[Part, str, str], SystemUnderTest] = {}
    for run in plan:
        if run.wants == "answers":
            key = run.part, run.library.name, run.session
            if key not in suts:
                suts[key] = _sut(parts, run.part, run.library)
            issue = _one_by_one if scenario == "single-stream" else _whole
            answered = [
                replace(query, block=got.blocks, round=got.rounds)
                for query in issue(suts[key], run, clock)
            ]
            got.queries.setdefault(run.name, []).extend(answered)
        else:
            _look(run, parts[run.part], got)
        got.blocks += 1
        steps.finish(len(run.queries))
    got.rounds += 1


def _sut(parts: Parts, part: Part, library: Library) -> SystemUnderTest:
    if part == "perturbed":
        return parts["submitted"].perturbed(library)
    return parts[part].sut(library)


def _one_by_one(sut: SystemUnderTest, run: Run, clock: Clock) -> list[Query]:
    """Single-stream: each query of one sample, the next when it is answered."""
    samples = [sample for query in run.queries for sample in query]
    answered = []
    for timing in run_single_stream(sut, samples, clock):
        query = Query(block=0, timings=(timing,))
        answered.append(replace(query, reported=_reported(sut, {0: timing})))
    return answered


def _whole(sut: SystemUnderTest, run: Run, clock: Clock) -> list[Query]:
    """Offline: each query with all of its samples at once."""
    answered = []
    for samples in run.queries:
        timings = run_offline(sut, samples, clock)
        reported = _reported(sut, {timing.position: timing for timing in timings})
        answered.append(Query(block=0, timings=tuple(timings), reported=reported))
    return answered


def _reported(sut: SystemUnderTest, timings: Mapping[int, SampleTiming]) -> dict[int, int]:
    """Place in the query -> tokens that the system counted, where it counts."""
    if not isinstance(sut, ReportsTokens):
        return {}
    told = {place: sut.reported_tokens(one.position) for place, one in timings.items()}
    return {place: count for place, count in told.items() if count is not None}


def _look(run: Run, auditee: Auditee, got: _Collected) -> None:
    """Ask for what is not timed; a system that cannot say leaves its reason."""
    samples = [sample for query in run.queries for sample in query]
    try:
        if run.wants == "first-tokens":
            tokens = auditee.first_tokens(run.library, samples)
            got.first_tokens.setdefault(run.name, {}).update(zip(samples, tokens, strict=True))
        else:
            got.logits.setdefault(run.name, []).extend(auditee.logits(run.library, samples))
    except NotSupported as reason:
        got.missing[run.name] = str(reason)
