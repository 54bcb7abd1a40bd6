"""Server-sent events: what each adds to an answer, and what is no event at all."""

from __future__ import annotations

import pytest

from edgebench.openai.connection import ServerFailed
from edgebench.openai.events import Delta, deltas
from tests.openai.fake_server import event, piece

STOP = piece("", "stop")


def read(*parts: bytes) -> list[Delta]:
    return list(deltas(b"".join(parts).split(b"\n")))


def test_a_completion() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    found = read(piece("a"), piece("b"), STOP, event({"choices": [], "usage": usage}))
    assert [(d.text, d.finish_reason) for d in found] == [
        ("a", None), ("b", None), ("", "stop"), ("", None),
    ]  # fmt: skip
    assert (found[-1].prompt_tokens, found[-1].completion_tokens) == (3, 2)


def test_a_chat() -> None:
    first = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})
    word = event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    last = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    assert [d.text for d in read(first, word, last)] == ["", "a", ""]


def test_comments_and_what_follows_done_are_passed_over() -> None:
    parts = (b": ping\n\nevent: message\nid: 1\n", piece("a"), STOP, b"data: [DONE]\n\ndata: {x\n")
    assert [d.text for d in read(*parts)] == ["a", ""]


@pytest.mark.parametrize(
    "part",
    [
        b"data: {\n", b"data: [1]\n", b"data: 7\n", b'{"text": "no event"}\n', b"<html>\n",
        b"data: \xff\xfe\n", b"data: " + b"[" * 100_000 + b"\n", b"data: " + b"9" * 5000 + b"\n",
        event({"choices": [{"index": 1, "text": "a"}]}), event({"choices": [{"text": 1}]}),
        event({"choices": ["a"]}), event({"choices": [{"text": "", "finish_reason": 1}]}),
        event({"choices": {"a": 1}}), event({"choices": [], "usage": "much"}),
    ],
)  # fmt: skip
def test_what_is_no_event(part: bytes) -> None:
    with pytest.raises(ServerFailed, match="expected server-sent events"):
        read(part, STOP)


def test_an_error_event_says_what_the_server_said() -> None:
    with pytest.raises(ServerFailed, match="failed at an answer: out of memory"):
        read(piece("a"), event({"error": {"message": "out of memory", "code": 500}}))


@pytest.mark.parametrize("parts", [(), (piece("a"),), (piece("a"), b"data: [DONE]\n")])
def test_a_stream_that_was_cut_off(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(ServerFailed, match="it was cut off"):
        read(*parts)


def test_counts_are_integers_or_absent() -> None:
    odd = event({"choices": [], "usage": {"prompt_tokens": True, "completion_tokens": 2.5}})
    (_, last) = read(STOP, odd)
    assert (last.prompt_tokens, last.completion_tokens) == (None, None)
