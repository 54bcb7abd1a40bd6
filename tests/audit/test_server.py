"""Audits of external engines: a server in this process, honest or not, asked over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from edgebench.audit import TESTS
from edgebench.audit.auditee import NotSupported
from edgebench.audit.case import Case, Claimed, Counts
from edgebench.audit.conduct import Judged, conduct
from edgebench.audit.libraries import scored_library
from edgebench.audit.server_auditee import ServerAuditee
from edgebench.openai.address import parse_url
from edgebench.openai.discovery import discover
from edgebench.openai.engine import External, open_external
from edgebench.progress import SilentProgress
from tests.openai.fake_server import Body, FakeServer, Reply, completing, serving, stream

if TYPE_CHECKING:
    from edgebench.prepared_text import PreparedText

pytestmark = [pytest.mark.torch]

WORK_S = 0.01


class Engine:
    """Knows every scored answer; takes its time for it."""

    def __init__(self, prepared: PreparedText) -> None:
        self.calls = {
            tuple(ids): pair.call
            for ids, pair in zip(prepared.prompts, prepared.pairs, strict=True)
        }
        self.lengths = {tuple(ids): len(call) for ids, call in zip(
            prepared.prompts, prepared.calls, strict=True)}  # fmt: skip
        self.is_caching = self.is_padding = self.is_silent = False
        self.kept: set[tuple[int, ...]] = set()

    def __call__(self, body: Body) -> Reply:
        prompt = tuple(body["prompt"])
        if prompt not in self.kept:
            time.sleep(WORK_S)
        if self.is_caching:
            self.kept.add(prompt)
        call = self.calls[prompt]
        counted = self.lengths[prompt] * (2 if self.is_padding else 1)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": counted}
        return stream(call[:5], call[5:], usage=None if self.is_silent else usage)


@pytest.fixture(scope="module")
def prepared() -> PreparedText:
    from edgebench.prepare import prepare
    from edgebench.prepared_text import require_text

    return require_text(prepare("assistant", None, SilentProgress()), "audit")


@pytest.fixture
def engine(prepared: PreparedText) -> Engine:
    return Engine(prepared)


@contextmanager
def asked(engine: Engine, prepared: PreparedText) -> Iterator[tuple[FakeServer, External]]:
    with serving(completing(engine, "tiny-assistant")) as server:
        external = open_external(discover(parse_url(server.url), None), prepared, 4)
        yield server, external
        external.close()


def audited(
    engine: Engine, prepared: PreparedText, *names: str, in_flight: int = 1
) -> dict[str, Judged]:
    scored = scored_library(prepared)
    case = Case(
        kernel="external",
        scenario="single-stream" if in_flight == 1 else "offline",
        scored=scored,
        unseen=None,
        counts=Counts(pairs=8, answers=24, logits=2),
        batch_size=in_flight,
        published_seed=42,
        seed=3,
        claimed=Claimed(outputs={i: tuple(call) for i, call in enumerate(prepared.calls)}),
    )
    with asked(engine, prepared) as (_, external):
        auditee = ServerAuditee(external, prepared, in_flight)
        tests = [TESTS[name] for name in names]
        return {one.test: one for one in conduct(case, tests, {"submitted": auditee})}


@pytest.mark.parametrize("in_flight", [1, 4])
def test_what_a_server_shows_is_judged_and_the_rest_is_not_passed(
    engine: Engine, prepared: PreparedText, in_flight: int
) -> None:
    found = audited(engine, prepared, "tokens", "perturbed", "outputs", in_flight=in_flight)
    assert found["tokens"].verdict == "passed"
    assert "passed" in {m.verdict for m in found["tokens"].measures if "reported" in m.what}
    assert found["perturbed"].verdict == "not applicable"
    assert "weights cannot be reached" in found["perturbed"].note
    told = {m.what: m for m in found["outputs"].measures}
    assert told["outputs unlike the bundle's"].verdict == "passed"
    assert told["full logits"].verdict == "not applicable"


def test_a_server_that_caches_is_caught(engine: Engine, prepared: PreparedText) -> None:
    engine.is_caching = True
    assert audited(engine, prepared, "caching")["caching"].verdict == "caught"


def test_tokens_that_are_counted_and_not_generated_are_caught(
    engine: Engine, prepared: PreparedText
) -> None:
    engine.is_padding = True
    assert audited(engine, prepared, "tokens")["tokens"].verdict == "caught"


def test_a_server_that_counts_nothing_reports_nothing(
    engine: Engine, prepared: PreparedText
) -> None:
    engine.is_silent = True
    (told,) = (
        m for m in audited(engine, prepared, "tokens")["tokens"].measures if "reported" in m.what
    )
    assert told.verdict == "not applicable"


def test_a_server_that_fails_is_no_pass(engine: Engine, prepared: PreparedText) -> None:
    lost = next(iter(engine.calls))
    engine.calls = {lost: engine.calls[lost]}
    engine.calls |= {tuple(ids): "{}" for ids in prepared.prompts[:8]}
    assert audited(engine, prepared, "tokens")["tokens"].verdict == "failed"


def test_all_systems_under_test_share_their_connections(
    engine: Engine, prepared: PreparedText
) -> None:
    """A server may have a thread for each connection, and few of them."""
    scored = scored_library(prepared)
    with asked(engine, prepared) as (server, external):
        auditee = ServerAuditee(external, prepared, 1)
        before = server.dialed
        for _ in range(3):
            auditee.first_tokens(scored, [0, 1])
        assert server.dialed == before + 1
        with pytest.raises(NotSupported):
            auditee.logits(scored, [0])
