"""`bench run --sut openai` end to end, against a server in this process that knows the answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench_workloads.assistant.tokenizer import load_tokenizer, prompt_ids
from edgebench_workloads.catalog import find
from tests.e2e.conftest import Said, bench
from tests.openai.fake_server import (
    Body,
    FakeServer,
    Reply,
    Script,
    completing,
    document,
    serving,
    stream,
)

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native]

# One thread: a second one that spins would take the core from the server.
RUN = (
    *("run", "--sut", "openai", "--workload", "assistant", "--scenario", "single"),
    *("--threads", "1"),
)


class Oracle:
    """Answers every scored prompt rightly; out of order once it answered `patience` of them."""

    def __init__(self) -> None:
        workload = find("assistant")
        tokenizer = load_tokenizer(workload.reference_directory())
        self.answers = {
            tuple(prompt_ids(tokenizer, pair.command)): pair.call for pair in workload.scored()
        }
        self.lengths = {call: len(tokenizer.encode(call).ids) + 1 for call in self.answers.values()}
        self.patience = -1

    def __call__(self, body: Body) -> Reply:
        if self.patience == 0:
            return document({"error": {"message": "the accelerator fell off"}}, status=500)
        self.patience -= 1
        prompt = tuple(body["prompt"])
        call = self.answers[prompt]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": self.lengths[call]}
        return stream(call[:5], call[5:], usage=usage)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def server(oracle: Oracle) -> Iterator[FakeServer]:
    """A server of the oracle's answers."""
    with serving(completing(oracle, "tiny-assistant")) as running:
        yield running


def error_line(said: Said) -> str:
    """The error, which must be one line."""
    assert "bench: " in said.err, said.err
    (line,) = (line for line in said.err.splitlines() if line.startswith("bench: "))
    assert "Traceback" not in said.err
    return line


@pytest.mark.slow
def test_a_server_that_fails_loses_nothing_and_the_run_goes_on(
    server: FakeServer, oracle: Oracle, tmp_path: Path
) -> None:
    oracle.patience = 700  # somewhere in the accuracy run
    run = (*RUN, "--url", server.url, "--format", "json", "--budget", "30")
    failed = bench(*run, cwd=tmp_path)
    assert failed.code == 4, failed.err
    assert "got 500: the accelerator fell off" in error_line(failed)
    assert "--resume" in failed.err
    (path,) = tmp_path.glob("submissions/**/samples.jsonl")
    kept = path.read_text().splitlines()
    assert len(kept) >= 2 * 512

    oracle.patience = -1
    said = bench(*run, "--resume", cwd=tmp_path)
    assert said.code == 0, said.err
    assert path.read_text().splitlines()[: 2 * 512] == kept[: 2 * 512]
    fp16, external = said.rows
    assert (fp16["kernel"], external["kernel"]) == ("fp16", "external")
    assert external["accuracy"] == 1.0
    assert external["accuracy_passed"]
    assert external["ttft_p90_ms"] < external["latency_p90_raw_ms"]
    assert external["speedup"] > 0
    assert external["weight_bytes"] is external["peak_memory_bytes"] is None
    assert external["executed_path"] == "openai /v1/completions, fake/1, model tiny-assistant"
    assert not any("counted otherwise" in text for text in external["warnings"])

    record = json.loads((path.parent / "record.json").read_text())
    assert "EXTERNAL-ENGINE" in record["stamps"]
    assert record["external"]["prompt_form"] == "token ids"
    checked = bench("check", path.parent, cwd=tmp_path)
    assert checked.code == 0, checked.out
    assert "E-02" in checked.out

    words = ("--url", server.url, "--tests", "tokens,length,perturbed", "--out", "audit")
    audited = bench("audit", path.parent, *words, cwd=tmp_path)
    assert "| external | tokens | passed | reported counts unlike the tokens: 0 |" in audited.out
    assert "| external | length | passed |" in audited.out
    assert "| external | perturbed | not applicable | an external engine's weights" in audited.out
    board = bench("leaderboard", "submissions", "--out", "board", cwd=tmp_path)
    assert board.code == 0, board.err
    assert "external engine" in (tmp_path / "board" / "index.html").read_text()


def _redirect(path: str, body: Body) -> Reply:
    return Reply(status=302, headers={"Location": "http://127.0.0.1:1/"})


@pytest.mark.parametrize(
    ("script", "said", "code"),
    [
        (_redirect, "a redirect, which is not followed", 4),
        (completing(lambda _: stream("")), "got empty ones only", 4),
        (completing(lambda _: Reply(pieces=[b"data: {"])), "expected server-sent events", 4),
        (completing(lambda _: document("busy", status=503)), "got 503: busy", 4),
        (completing(lambda _: stream("a"), "small", "large"), "got small, large; name it", 2),
    ],
)
def test_what_a_server_may_do(script: Script, said: str, code: int, tmp_path: Path) -> None:
    with serving(script) as server:
        came = bench(*RUN, "--url", server.url, cwd=tmp_path)
    assert came.code == code
    assert said in error_line(came)
    assert not list(tmp_path.glob("submissions/**/record.json"))


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    came = bench(*RUN, "--url", f"http://127.0.0.1:{port}", cwd=tmp_path)
    assert came.code == 3
    assert "start one, as docs/external-engines.md shows" in error_line(came)


def test_a_model_that_is_not_served(server: FakeServer, tmp_path: Path) -> None:
    came = bench(*RUN, "--url", server.url, "--served-model", "tiny-assitant", cwd=tmp_path)
    assert came.code == 2
    assert "did you mean 'tiny-assistant'" in error_line(came)
