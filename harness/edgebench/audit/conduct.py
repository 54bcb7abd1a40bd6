"""Conducting: plans every test, runs its blocks on the auditee, and collects the judgements."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgebench.audit.auditee import Auditee, Library, LogitsPair, NotSupported, ReportsTokens
from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure, Verdict, worst
from edgebench.audit.runs import AuditTest, Part, Query, Results, Run
from edgebench.errors import RunFailed
from edgebench.loadgen import Clock, SystemUnderTest, run_offline, run_single_stream

Update = Callable[[int, int], None]
Parts = Mapping[Part, Auditee]
"""Who stands behind each part; 'perturbed' is the submitted auditee's own."""


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


@dataclass(slots=True)
class _Collected:
    queries: dict[str, list[Query]] = field(default_factory=dict)
    first_tokens: dict[str, dict[int, int]] = field(default_factory=dict)
    logits: dict[str, list[LogitsPair]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def conduct(
    case: Case,
    tests: Sequence[AuditTest],
    parts: Parts,
    update: Update = lambda done, total: None,
    clock: Clock = time.monotonic_ns,
) -> list[Judged]:
    """Run the tests in order and judge each; KeyboardInterrupt passes at once.

    Each test meets systems under test of its own, so nothing that one learned helps in another. A
    test that the auditee does not support, or that fails, says so and the others go on.
    """
    plans = [_plan(test, case) for test in tests]
    total = sum(len(run.queries) for plan in plans if isinstance(plan, list) for run in plan)
    done = 0
    judged = []
    for test, plan in zip(tests, plans, strict=True):
        if isinstance(plan, str):
            judged.append(_without(test, "not applicable", plan))
            continue
        before = done

        def count(queries: int, before: int = before) -> None:
            update(before + queries, total)

        judged.append(_judge(test, case, plan, parts, count, clock))
        done += sum(len(run.queries) for run in plan)
    return judged


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
    count: Callable[[int], None],
    clock: Clock,
) -> Judged:
    try:
        results = _run_all(plan, parts, case, count, clock)
        measures = test.verify(case, results)
    except NotSupported as reason:
        return _without(test, "not applicable", str(reason))
    except RunFailed as err:
        return _without(test, "failed", str(err))
    return Judged(
        test=test.name,
        catches=test.catches,
        verdict=worst(measures),
        measures=tuple(measures),
        runs=len(plan),
        queries=sum(len(run.queries) for run in plan),
    )


def _run_all(
    plan: Sequence[Run],
    parts: Parts,
    case: Case,
    count: Callable[[int], None],
    clock: Clock,
) -> Results:
    suts: dict[tuple[Part, str, str], SystemUnderTest] = {}
    got = _Collected()
    finished = 0
    for block, run in enumerate(plan):
        if run.wants == "answers":
            key = run.part, run.library.name, run.session
            if key not in suts:
                suts[key] = _sut(parts, run.part, run.library)
            issue = _one_by_one if case.scenario == "single-stream" else _whole
            got.queries.setdefault(run.name, []).extend(issue(suts[key], run, block, clock))
        else:
            _look(run, parts[run.part], got)
        finished += len(run.queries)
        count(finished)
    return Results(
        queries=got.queries,
        first_tokens=got.first_tokens,
        logits=got.logits,
        missing=got.missing,
    )


def _sut(parts: Parts, part: Part, library: Library) -> SystemUnderTest:
    if part == "perturbed":
        return parts["submitted"].perturbed(library)
    return parts[part].sut(library)


def _one_by_one(sut: SystemUnderTest, run: Run, block: int, clock: Clock) -> list[Query]:
    """Single-stream: each query of one sample, the next when it is answered."""
    samples = [sample for query in run.queries for sample in query]
    answered = []
    for timing in run_single_stream(sut, samples, clock):
        query = Query(block=block, timings=(timing,))
        if isinstance(sut, ReportsTokens):
            query = replace(query, reported={0: sut.reported_tokens(timing.position)})
        answered.append(query)
    return answered


def _whole(sut: SystemUnderTest, run: Run, block: int, clock: Clock) -> list[Query]:
    """Offline: each query with all of its samples at once."""
    answered = []
    for samples in run.queries:
        timings = run_offline(sut, samples, clock)
        reported = {}
        if isinstance(sut, ReportsTokens):
            reported = {t.position: sut.reported_tokens(t.position) for t in timings}
        answered.append(Query(block=block, timings=tuple(timings), reported=reported))
    return answered


def _look(run: Run, auditee: Auditee, got: _Collected) -> None:
    """Ask for what is not timed; a system that cannot say leaves its reason."""
    samples = [sample for query in run.queries for sample in query]
    try:
        if run.wants == "first-tokens":
            tokens = auditee.first_tokens(run.library, samples)
            got.first_tokens[run.name] = dict(zip(samples, tokens, strict=True))
        else:
            got.logits[run.name] = list(auditee.logits(run.library, samples))
    except NotSupported as reason:
        got.missing[run.name] = str(reason)
