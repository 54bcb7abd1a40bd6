"""The system under test behind HTTP: what is timed, what is answered, and what stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from edgebench.errors import RunFailed
from edgebench.loadgen import SampleTiming, run_offline, run_single_stream
from edgebench.openai.connection import Connection
from edgebench.openai.engine import executed_path, model_name
from edgebench.openai.request import REQUEST_SEED, Task
from edgebench.openai.sut import OpenAiSut
from edgebench.record import ExternalServer
from edgebench.stats import tpot_ns, ttft_ns
from edgebench.strict import ExecutedPath
from tests.openai.conftest import EOS, door_to, encode
from tests.openai.fake_server import (
    Body,
    FakeServer,
    Reply,
    completing,
    event,
    piece,
    serving,
    stream,
)

MS = 1_000_000


Make = Callable[..., OpenAiSut]


@pytest.fixture
def sut(task: Task, hang_up: ExitStack) -> Make:
    """Make a system under test of a fake server."""

    def make(server: FakeServer, concurrency: int = 1, task: Task = task) -> OpenAiSut:
        own = OpenAiSut(name="fake", door=door_to(server), task=task, concurrency=concurrency)
        hang_up.callback(own.close)
        return own

    return make


def answered(own: OpenAiSut) -> tuple[int, ...]:
    (timing,) = run_single_stream(own, [0])
    return timing.output_ids


@pytest.fixture
def clocked(task: Task, sut: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[OpenAiSut, list[int]]:
    """A system whose events arrive 10 ms apart on a clock of the test's, which encoding moves."""
    now = [0]

    def arriving(own: Connection, path: str, body: bytes) -> Iterator[bytes]:
        for data in (
            b": hello", piece(""), piece("a"), piece("b"), piece("c"), piece("", "stop"),
            event({"choices": [], "usage": {"completion_tokens": 4}}), b"data: [DONE]",
        ):  # fmt: skip
            now[0] += 10 * MS
            yield data.strip()

    def slow_encode(text: str) -> list[int]:
        now[0] += 500 * MS
        return encode(text)

    monkeypatch.setattr(Connection, "post_lines", arriving)
    slow = replace(task, encode=slow_encode)
    with serving(completing(lambda _: stream("x"))) as server:
        own = sut(server, task=slow)
    return own, now


@pytest.mark.parametrize(
    ("pieces", "read"), [(("\ud83d", "\ude00"), "\U0001f600"), (("\ud800",), "\ufffd")]
)
def test_half_a_character_is_joined_or_no_character(
    task: Task, sut: Make, pieces: tuple[str, ...], read: str
) -> None:
    """Tokenizers take no lone surrogate, and a server may send one."""
    seen = []

    def strict(text: str) -> list[int]:
        seen.append(text.encode().decode())
        return encode("a")

    with serving(completing(lambda _: stream(*pieces))) as server:
        answered(sut(server, task=replace(task, encode=strict)))
    assert seen == [read]


def test_first_token_is_the_first_text_and_completion_the_finish(
    clocked: tuple[OpenAiSut, list[int]],
) -> None:
    own, now = clocked
    timings: list[SampleTiming] = list(run_single_stream(own, [0], clock=lambda: now[0]))
    (one,) = timings
    assert one.output_ids == (*encode("abc"), EOS)
    latency, ttft = one.completed_ns - one.issued_ns, ttft_ns(one.issued_ns, one.first_token_ns)
    assert ttft == 30 * MS  # a comment and an event without text came before it
    assert latency == 60 * MS  # usage, [DONE] and our encoding are behind it
    assert tpot_ns(latency, ttft, len(one.output_ids)) == 10 * MS


def test_an_answer_of_end_of_sequence_alone_has_no_tpot(sut: Make) -> None:
    with serving(completing(lambda _: stream(""))) as server:
        own = sut(server)
        (one,) = run_single_stream(own, [0])
    assert one.output_ids == (EOS,)
    assert one.first_token_ns == one.completed_ns
    assert tpot_ns(one.completed_ns - one.issued_ns, 0, 1) is None
    assert own.oddities.warnings() == ("1 of 1 answers were empty",)


def test_the_request_is_greedy_seeded_and_streamed(task: Task, sut: Make) -> None:
    with serving(completing(lambda _: stream("a"))) as server:
        answered(sut(server))
    (body,) = server.asked("/v1/completions")
    assert body == {
        "model": "tiny",
        "prompt": encode("ab0"),
        "max_tokens": task.max_new_tokens,
        "temperature": 0,
        "seed": REQUEST_SEED,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("reply", "output"),
    [
        (stream("a", "b"), (*encode("ab"), EOS)),
        (stream("a", "b", finish_reason="length"), tuple(encode("ab"))),
        (stream("abcdefgh", finish_reason="length"), tuple(encode("abcdef"))),
        (stream("ab<eos>"), (*encode("ab"), EOS)),
        (Reply(pieces=[piece("a", "stop"), piece("late")]), (*encode("a"), EOS)),
    ],
)
def test_what_counts_as_the_output(sut: Make, reply: Reply, output: tuple[int, ...]) -> None:
    with serving(completing(lambda _: reply)) as server:
        assert answered(sut(server)) == output


@pytest.mark.parametrize(
    ("usage", "warnings"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 3}, 0),
        ({"prompt_tokens": 3, "completion_tokens": 2}, 0),  # end-of-sequence left out
        ({}, 0),
        ({"prompt_tokens": 4, "completion_tokens": 3}, 1),
        ({"prompt_tokens": 4, "completion_tokens": 1}, 2),
    ],
)
def test_the_servers_counts_are_compared(sut: Make, usage: Body, warnings: int) -> None:
    with serving(completing(lambda _: stream("a", "b", usage=usage))) as server:
        own = sut(server)
        list(run_single_stream(own, [0]))
    assert len(own.oddities.warnings()) == warnings


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(pieces=[piece("a")]), "cut off"),
        (Reply(pieces=[piece("a")], is_whole=False), "cut off"),
        (Reply(pieces=[b"data: {\n"]), "server-sent events"),
        (Reply(pieces=[b"{}\n"]), "server-sent events"),
        (stream("", finish_reason="length"), "an empty one of full length"),
        (stream("a", finish_reason="abort"), "ends by 'stop' or 'length', got 'abort'"),
        (Reply(pieces=[b"boom"], status=500), "got 500: boom"),
    ],
)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_fault_is_one_clear_error(sut: Make, reply: Reply, said: str, concurrency: int) -> None:
    def script(body: Body) -> Reply:
        return reply if body["prompt"] == encode("ab3") else stream("a")

    with (
        serving(completing(script)) as server,
        pytest.raises(RunFailed, match=rf"\[loadgen\] fake raised \w+ on sample .*{said}"),
    ):
        run_offline(sut(server, concurrency), range(10))


def test_it_goes_on_after_a_fault(sut: Make) -> None:
    replies = iter([Reply(pieces=[piece("a")], is_whole=False), stream("a"), stream("b")])
    with serving(completing(lambda _: next(replies))) as server:
        own = sut(server)
        with pytest.raises(RunFailed):
            list(run_single_stream(own, [0]))
        assert [len(t.output_ids) for t in run_single_stream(own, [0, 1])] == [2, 2]


def test_offline_keeps_so_many_requests_in_flight(sut: Make) -> None:
    meeting = threading.Barrier(4, timeout=30)  # breaks, and fails, where fewer come together

    def script(body: Body) -> Reply:
        meeting.wait()
        return stream(chr(body["prompt"][2]))

    with serving(completing(script)) as server:
        timings = run_offline(sut(server, 4), range(8))
        assert server.dialed == 4
    assert [timing.sample for timing in timings] == list(range(8))
    assert [timing.output_ids for timing in timings] == [
        (ord(str(number)), EOS) for number in range(8)
    ]


def test_single_stream_asks_one_thing_at_a_time(sut: Make) -> None:
    under_way = threading.Semaphore(1)

    def script(body: Body) -> Reply:
        assert under_way.acquire(blocking=False)

        def pieces() -> Iterator[bytes]:
            yield piece("a", "stop")
            under_way.release()

        return Reply(pieces=pieces())

    with serving(completing(script)) as server:
        assert len(list(run_single_stream(sut(server, 4), range(10)))) == 10


def test_ctrl_c_passes_and_hangs_up(sut: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def waiting() -> Iterator[bytes]:
        yield piece("a")
        released.wait(60)

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with serving(completing(lambda _: Reply(pieces=waiting()))) as server:
        own = sut(server, 4)
        monkeypatch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_offline(own, range(10))
        monkeypatch.undo()
        released.set()


@pytest.mark.parametrize(
    ("software", "model"),
    [
        ("fake/1\x1b[31m\n", "tiny\t"),
        (" fake ", "m" * 5000),
        ("\u202e", "/home/somebody/models/tiny \ud800"),
        (None, "   "),
    ],
)
def test_what_a_server_calls_itself_makes_a_path_that_a_record_takes(
    software: str | None, model: str
) -> None:
    server = ExternalServer.model_construct(
        endpoint="/v1/completions", software=software, model=model_name(model)
    )
    path = executed_path(server)
    field = TypeAdapter(ExecutedPath)
    assert field.validate_python(path) == path
    assert path.isprintable()
    assert path == path.strip()
    assert "somebody" not in path
