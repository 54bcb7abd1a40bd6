"""The connection: kept alive, dialed again, and closed to whatever sends too much."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from edgebench.openai import connection as module
from edgebench.openai.address import Address, parse_url
from edgebench.openai.connection import Connection, Limits, NotReachable, Refused, ServerFailed
from tests.openai.fake_server import Body, FakeServer, Reply, document, serving

PATH = "/v1/completions"


def lines(server: FakeServer, **limits: float) -> list[bytes]:
    with closing(Connection(parse_url(server.url), Limits(**limits))) as own:
        return list(own.post_lines(PATH, b"{}"))


def test_lines_arrive_whole_however_they_were_cut() -> None:
    with serving(lambda *_: Reply(pieces=[b"ab", b"c\r\nd", b"e\n", b"\nlast"])) as server:
        assert lines(server) == [b"abc", b"de", b"", b"last"]


def test_one_connection_serves_many_requests() -> None:
    with serving(lambda *_: Reply(pieces=[b"a\n"])) as server:
        with closing(Connection(parse_url(server.url))) as own:
            for _ in range(3):
                assert list(own.post_lines(PATH, b"{}")) == [b"a"]
        assert (server.dialed, len(server.seen)) == (1, 3)


def test_a_connection_that_the_server_closed_is_dialed_again() -> None:
    with serving(lambda *_: Reply(pieces=[b"a\n"], hangs_up=True)) as server:
        with closing(Connection(parse_url(server.url))) as own:
            for _ in range(3):
                assert list(own.post_lines(PATH, b"{}")) == [b"a"]
        assert server.dialed == 3


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotReachable, match=r"expected a server that answers .*refused"):
        Connection(Address(host="127.0.0.1", port=port)).get_json("/v1/models")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "no such model", "code": 1}}, "no such model"),
        ({"error": "full"}, "full"),
        ({"detail": [{"msg": "bad field"}]}, r"\[\{\"msg\": \"bad field\"\}\]"),
        ({"message": "later"}, "later"),
        ("plain", "plain"),
        (None, "null"),
    ],
)
@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_the_servers_message_is_told(status: int, body: object, said: str) -> None:
    with (
        serving(lambda *_: document(body, status=status)) as server,
        pytest.raises(Refused, match=f"expected status 200 from {PATH}, got {status}: {said}"),
    ):
        lines(server)


def test_control_characters_do_not_reach_the_terminal() -> None:
    reply = Reply(pieces=[b"\x1b[31m" + b"red " * 1000], status=500)
    with serving(lambda *_: reply) as server, pytest.raises(Refused) as caught:
        lines(server)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refused(status: int) -> None:
    reply = Reply(status=status, headers={"Location": "http://127.0.0.1:1/steal"})
    with (
        serving(lambda *_: reply) as server,
        pytest.raises(Refused, match=f"got {status}: a redirect, which is not followed"),
    ):
        lines(server)
    assert len(server.seen) == 1


def test_a_stream_that_breaks_off() -> None:
    reply = Reply(pieces=[b"a\n"], is_whole=False)
    with serving(lambda *_: reply) as server, pytest.raises(ServerFailed, match="was cut off"):
        lines(server)


def test_what_is_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_send_and_close, args=(listening, b"no http at all\r\n"))
        thread.start()
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])
        with pytest.raises(ServerFailed, match=f"expected HTTP from {PATH}"):
            list(Connection(address).post_lines(PATH, b"{}"))
        thread.join()


def _send_and_close(listening: socket.socket, data: bytes) -> None:
    there, _ = listening.accept()
    with there:
        there.recv(1 << 16)
        there.sendall(data)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    released = threading.Event()

    def silent() -> Iterator[bytes]:
        yield b"a\n"
        released.wait(60)

    with serving(lambda *_: Reply(pieces=silent())) as server:
        with pytest.raises(ServerFailed, match="in time, got none"):
            lines(server, read_s=0.05)
        released.set()


def test_an_answer_without_end_is_not_waited_for_either() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b": ping\n"

    with (
        serving(lambda *_: Reply(pieces=endless())) as server,
        pytest.raises(ServerFailed, match="in time"),
    ):
        lines(server, answer_s=0.05)


@pytest.mark.parametrize("limit", ["MAX_ANSWER_BYTES", "MAX_LINE_BYTES"])
def test_too_much(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(module, limit, 1000)
    reply = Reply(pieces=[b"x" * 999] * 10)
    with serving(lambda *_: reply) as server, pytest.raises(ServerFailed, match="got more"):
        lines(server)


def test_a_document_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 1000)
    with (
        serving(lambda *_: document("x" * 2000)) as server,
        closing(Connection(parse_url(server.url))) as own,
        pytest.raises(ServerFailed, match="to send at most 1000 bytes"),
    ):
        own.get_json("/v1/models")


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b""])
def test_a_document_that_is_no_json(data: bytes) -> None:
    def script(path: str, body: Body) -> Reply:
        return Reply(pieces=[data] if data else [])

    with (
        serving(script) as server,
        closing(Connection(parse_url(server.url))) as own,
        pytest.raises(ServerFailed, match="expected JSON from"),
    ):
        own.get_json("/v1/models")
