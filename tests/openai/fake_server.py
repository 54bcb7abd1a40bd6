"""A small OpenAI-compatible server in a thread: a test tells it how to answer, or to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Reply:
    """What to send: a status, headers, and the body in the pieces that go out one by one."""

    pieces: Iterator[bytes] | list[bytes] = field(default_factory=list)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = True
    """False hangs up in the middle of the body."""
    hangs_up: bool = False
    """Close the connection after this answer, as a server does to an idle one."""


Script = Callable[[str, Body], Reply]
"""(path, request) -> reply; a GET has no request."""


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(text: str, finish_reason: str | None = None, **more: Any) -> bytes:
    """One event of a completion."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason}
    return event({"choices": [choice], **more})


def stream(*texts: str, finish_reason: str = "stop", usage: Body | None = None) -> Reply:
    """A well-formed answer in some pieces."""
    pieces = [piece(text) for text in texts]
    pieces.append(piece("", finish_reason))
    if usage is not None:
        pieces.append(event({"choices": [], "usage": usage}))
    return Reply(pieces=[*pieces, b"data: [DONE]\n\n"])


def document(value: object, status: int = 200) -> Reply:
    """A JSON document."""
    return Reply(pieces=[json.dumps(value).encode()], status=status)


def models(*names: str) -> Reply:
    """The list of models."""
    return document({"object": "list", "data": [{"id": name} for name in names]})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeServer

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Body) -> None:
        self.server.seen.append((self.path, body))
        reply = self.server.script(self.path, body)
        self.send_response(reply.status)
        for name, value in {"Transfer-Encoding": "chunked", **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for part in reply.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if reply.is_whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = reply.hangs_up or not reply.is_whole

    def version_string(self) -> str:
        return self.server.software

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class FakeServer(ThreadingHTTPServer):
    """Answers by a script; `seen` holds every request, `dialed` counts connections."""

    daemon_threads = True
    software = "fake/1"

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.seen: list[tuple[str, Body]] = []
        self.dialed = 0

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get_request(self) -> Any:
        self.dialed += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""

    def asked(self, path: str) -> list[Body]:
        """The requests that came to one path."""
        return [body for came, body in self.seen if came == path]


@contextmanager
def serving(script: Script) -> Iterator[FakeServer]:
    """Serve until the block ends."""
    server = FakeServer(script)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completing(reply: Callable[[Body], Reply], *names: str) -> Script:
    """A server of some models that answers completions, and knows no other path."""

    def script(path: str, body: Body) -> Reply:
        if path == "/v1/models":
            return models(*(names or ("tiny",)))
        if path == "/v1/completions":
            return reply(body)
        return document({"detail": "Not Found"}, status=404)

    return script
