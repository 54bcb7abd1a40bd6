"""Discovery: who serves what, and through which door prompts go in."""

from __future__ import annotations

import socket

import pytest

from edgebench.errors import DeviceUnavailable, SpecError
from edgebench.openai.address import parse_url
from edgebench.openai.connection import Refused, ServerFailed
from edgebench.openai.discovery import Served, discover, open_door
from edgebench.openai.request import Door, Task
from tests.openai.fake_server import (
    Body,
    FakeServer,
    Reply,
    Script,
    completing,
    document,
    event,
    models,
    serving,
    stream,
)

NOT_FOUND = document({"detail": "Not Found"}, status=404)


def found(server: FakeServer, wanted: str | None = None) -> Served:
    return discover(parse_url(server.url), wanted)


def door(server: FakeServer, task: Task) -> Door:
    served = Served(address=parse_url(server.url), model="tiny", software="")
    return open_door(served, task)


def test_the_only_model_need_not_be_named() -> None:
    with serving(completing(lambda _: stream("a"), "tiny")) as server:
        served = found(server)
    assert (served.model, served.software) == ("tiny", "fake/1")


def test_versions_are_told_where_the_server_tells_them() -> None:
    def script(path: str, body: Body) -> Reply:
        if path == "/props":
            return document({"build_info": "b1234-abc", "model_path": "ignored"})
        return document({"version": "0.9"}) if path == "/version" else models("tiny")

    with serving(script) as server:
        assert found(server).software == "fake/1, b1234-abc, 0.9"


def test_several_models_have_to_be_told_apart() -> None:
    with serving(completing(lambda _: stream("a"), "small", "large")) as server:
        with pytest.raises(SpecError, match="got small, large; name it with --served-model"):
            found(server)
        assert found(server, "large").model == "large"


def test_a_model_that_is_not_served() -> None:
    with (
        serving(completing(lambda _: stream("a"), "small", "large")) as server,
        pytest.raises(SpecError, match="out of large, small, got 'lage'; did you mean 'large'"),
    ):
        found(server, "lage")


def test_a_server_without_a_list_is_believed() -> None:
    with serving(lambda *_: NOT_FOUND) as server:
        assert found(server, "any").model == "any"
        with pytest.raises(SpecError, match="got none; name it with --served-model"):
            found(server)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeviceUnavailable, match=r"expected a server at .*external-engines\.md"):
        discover(parse_url(f"http://127.0.0.1:{port}"), None)


@pytest.mark.parametrize("listed", [[], {"data": 1}, "models", None])
def test_what_is_no_list_of_models(listed: object) -> None:
    with (
        serving(lambda *_: document(listed)) as server,
        pytest.raises(ServerFailed, match="expected a list of models"),
    ):
        found(server)


def test_token_ids_are_asked_first(task: Task) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    with serving(completing(lambda _: stream("a", usage=usage))) as server:
        assert door(server, task).prompt_form == "token ids"


def _text_only(body: Body) -> Reply:
    if isinstance(body["prompt"], str):
        return stream("a")
    return document({"detail": "prompt must be a string"}, status=400)


def _counts_ids_otherwise(body: Body) -> Reply:
    count = 3 if isinstance(body["prompt"], str) else 12
    return stream("a", usage={"prompt_tokens": count, "completion_tokens": 2})


@pytest.mark.parametrize("reply", [_text_only, _counts_ids_otherwise])
def test_text_where_ids_are_not_understood(task: Task, reply: object) -> None:
    with serving(completing(reply)) as server:  # type: ignore[arg-type]
        assert door(server, task).prompt_form == "text"
    assert server.asked("/v1/completions")[-1]["prompt"] == "ab3"


def _chat(path: str, body: Body) -> Reply:
    if path != "/v1/chat/completions":
        return NOT_FOUND
    assert body["messages"][0]["content"].startswith("ab")
    word = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}
    return Reply(pieces=[event({"choices": [word]})])


def test_chat_only_where_there_is_no_other_endpoint(task: Task) -> None:
    with serving(_chat) as server:
        assert door(server, task).endpoint == "/v1/chat/completions"


@pytest.mark.parametrize("status", [404, 400, 500])
def test_a_missing_model_is_no_missing_endpoint(task: Task, status: int) -> None:
    said = {"error": {"message": "The model `tiny` does not exist."}}
    script: Script = completing(lambda _: document(said, status=status))
    with serving(script) as server, pytest.raises(Refused, match="does not exist"):
        door(server, task)
    assert not server.asked("/v1/chat/completions")


def test_empty_answers_only_are_no_answers(task: Task) -> None:
    with (
        serving(completing(lambda _: stream(""))) as server,
        pytest.raises(ServerFailed, match="got empty ones only; is the workload's model served"),
    ):
        door(server, task)
