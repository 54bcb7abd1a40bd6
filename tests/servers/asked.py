"""What every real server is asked: a part of the scored set, one at a time and eight at a time."""

from __future__ import annotations

from contextlib import closing

from edgebench.answers import AnswerKey
from edgebench.audit import TESTS
from edgebench.audit.auditee import Auditee
from edgebench.audit.case import Case, Claimed, Counts
from edgebench.audit.conduct import conduct
from edgebench.audit.libraries import scored_library
from edgebench.audit.runs import Part
from edgebench.audit.server_auditee import ServerAuditee
from edgebench.loadgen import SampleTiming, run_offline, run_single_stream
from edgebench.openai.address import parse_url
from edgebench.openai.discovery import discover
from edgebench.openai.engine import External, open_external
from edgebench.prepare import prepare
from edgebench.prepared_text import PreparedText, require_text
from edgebench.progress import SilentProgress

SINGLE, OFFLINE, CONCURRENCY = 24, 64, 8


def prepared_assistant() -> PreparedText:
    """The workload without any quantized weights."""
    return require_text(prepare("assistant", None, SilentProgress()), "servers")


def external_of(url: str, prepared: PreparedText) -> External:
    """Find the door of a server, as `bench run --sut openai` does."""
    return open_external(discover(parse_url(url), None), prepared, CONCURRENCY)


def right_share(prepared: PreparedText, timings: list[SampleTiming]) -> float:
    """The fraction of right answers."""
    key = AnswerKey(
        decoder=prepared.tokenizer,
        eos_id=prepared.eos_id,
        expected=[pair.call for pair in prepared.pairs],
        is_correct=prepared.workload.is_correct,
    )
    return sum(key.is_right(t.sample, t.output_ids) for t in timings) / len(timings)


def ask(external: External, prepared: PreparedText) -> None:
    """Ask, and demand answers as good as the reference's, in the order of their events."""
    with closing(external):
        single = external.for_scenario("single-stream")
        one_by_one = list(run_single_stream(single.sut, range(SINGLE)))
        assert all(t.issued_ns < t.first_token_ns < t.completed_ns for t in one_by_one)
        assert right_share(prepared, one_by_one) >= 0.95
        assert not single.warnings, single.warnings

        offline = external.for_scenario("offline")
        together = run_offline(offline.sut, range(OFFLINE))
        assert [t.sample for t in together] == list(range(OFFLINE))
        assert right_share(prepared, together) >= 0.95
        assert not offline.warnings, offline.warnings
        audit(external, prepared)


def audit(external: External, prepared: PreparedText) -> None:
    """Hold an honest server to what no clock decides: whole answers, counted and streamed."""
    case = Case(
        kernel="external",
        scenario="single-stream",
        scored=scored_library(prepared),
        unseen=None,
        counts=Counts(pairs=2, answers=12, logits=1),
        batch_size=1,
        published_seed=1,
        seed=2,
        claimed=Claimed(),
    )
    parts: dict[Part, Auditee] = {"submitted": ServerAuditee(external, prepared, 1)}
    (found,) = conduct(case, [TESTS["tokens"]], parts)
    assert found.verdict == "passed", found.measures
