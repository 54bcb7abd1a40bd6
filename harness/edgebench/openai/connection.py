"""One kept-alive HTTP connection, with a limit on everything that the other side may send.

The standard library's client, because it stands in the timed path: an answer of 16 chunks from a
server that does nothing took 0.2 ms through it and 0.7 ms through httpx (loopback, 2 cores). It
follows no redirect and reads no proxy from the environment.
"""

from __future__ import annotations

import json
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from socket import SHUT_RDWR, socket
from typing import Any

from edgebench.errors import RunFailed
from edgebench.findings import printable
from edgebench.openai.address import Address

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 120.0  # between two reads: a long prompt on a slow machine
ANSWER_TIMEOUT_S = 600.0  # of a whole answer
MAX_JSON_BYTES = 4 << 20
MAX_ANSWER_BYTES = 16 << 20
MAX_LINE_BYTES = 1 << 20
_READ_BYTES = 1 << 16


class ServerFailed(RunFailed):
    """A server answered with an error, or with what is no answer."""


class NotReachable(ServerFailed):
    """Nobody listens, or the server went away."""


class Refused(ServerFailed):
    """The server answered with a status that is no success."""

    def __init__(self, path: str, status: int, message: str) -> None:
        super().__init__(
            f"[openai] expected status 200 from {path}, got {status}: {message or 'no message'}"
        )
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait."""

    connect_s: float = CONNECT_TIMEOUT_S
    read_s: float = READ_TIMEOUT_S
    answer_s: float = ANSWER_TIMEOUT_S


LIMITS = Limits()


class Connection:
    """A connection to one server; one thread at a time."""

    def __init__(self, address: Address, limits: Limits = LIMITS) -> None:
        self._address = address
        self._limits = limits
        self._http = HTTPConnection(address.host, address.port, timeout=limits.connect_s)

    def close(self) -> None:
        """Hang up; the next request dials again."""
        self._http.close()

    def abort(self) -> None:
        """Hang up from another thread, so that a read under way ends at once."""
        dialed: socket | None = self._http.sock
        if dialed is not None:
            with suppress(OSError):  # it may be gone already
                dialed.shutdown(SHUT_RDWR)

    def get_json(self, path: str) -> tuple[Any, str]:
        """GET a JSON document; return it with the `Server` header. Raises ServerFailed."""
        with _translated(self, path):
            response = self._request("GET", path, None)
            data = self._whole(path, response)
        return _json(path, data), printable(response.getheader("Server") or "")

    def post_lines(self, path: str, body: bytes) -> Iterator[bytes]:
        """POST JSON and yield the lines of the answer as they arrive, without their ends.

        Raises ServerFailed; a stream that was not read to its end hangs up.
        """
        try:
            with _translated(self, path):
                response = self._request("POST", path, body)
                yield from self._lines(path, response)
        except BaseException:
            self.close()
            raise

    def _request(self, method: str, path: str, body: bytes | None) -> HTTPResponse:
        reused = self._is_open()
        try:
            response = self._sent(method, path, body)
        except (ConnectionError, HTTPException):
            if not reused:
                raise
            self.close()  # the server had hung up on an idle connection
            response = self._sent(method, path, body)
        if response.status != 200:
            self._refuse(path, response)
        return response

    def _is_open(self) -> bool:
        """Whether the connection can be used again; a server's hang-up makes it readable."""
        dialed: socket | None = self._http.sock
        if dialed is not None and select.select([dialed], [], [], 0)[0]:
            self.close()
        return self._http.sock is not None

    def _sent(self, method: str, path: str, body: bytes | None) -> HTTPResponse:
        if self._http.sock is None:
            self._dial()
        headers = {"Accept": "application/json, text/event-stream"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._http.request(method, path, body, headers)
        return self._http.getresponse()

    def _dial(self) -> None:
        self._http.connect()
        dialed: socket | None = self._http.sock
        if dialed is not None:
            dialed.settimeout(self._limits.read_s)

    def _refuse(self, path: str, response: HTTPResponse) -> None:
        if 300 <= response.status < 400:
            self.close()
            raise Refused(path, response.status, "a redirect, which is not followed")
        message = error_message(self._whole(path, response))
        raise Refused(path, response.status, message)

    def _whole(self, path: str, response: HTTPResponse) -> bytes:
        data = response.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            self.close()
            raise ServerFailed(f"[openai] expected {path} to send at most {MAX_JSON_BYTES} bytes")
        return data

    def _lines(self, path: str, response: HTTPResponse) -> Iterator[bytes]:
        deadline_s = time.monotonic() + self._limits.answer_s
        rest, total = b"", 0
        while data := response.read1(_READ_BYTES):
            total += len(data)
            if total > MAX_ANSWER_BYTES or len(rest) > MAX_LINE_BYTES:
                raise ServerFailed(
                    f"[openai] expected {path} to send lines of at most {MAX_LINE_BYTES} bytes and "
                    f"{MAX_ANSWER_BYTES} in all, got more"
                )
            if time.monotonic() > deadline_s:
                raise TimeoutError
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.removesuffix(b"\r")
        if rest:
            yield rest


@contextmanager
def _translated(connection: Connection, path: str) -> Iterator[None]:
    """Turn what sockets and http.client raise into ServerFailed, and hang up."""
    try:
        yield
    except (OSError, HTTPException, ValueError) as err:
        connection.close()
        raise _named(path, err) from err


def _named(path: str, error: Exception) -> ServerFailed:
    if isinstance(error, TimeoutError):
        return ServerFailed(
            f"[openai] expected an answer from {path} in time, got none; is the server overloaded? "
            "Lower --concurrency"
        )
    if isinstance(error, IncompleteRead):
        return ServerFailed(f"[openai] expected a whole answer from {path}; the stream was cut off")
    if isinstance(error, OSError):
        return NotReachable(
            f"[openai] expected a server that answers {path}, got {error.strerror or error!r}"
        )
    return ServerFailed(f"[openai] expected HTTP from {path}, got {shown(repr(error))}")


def _json(path: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        text = shown(data.decode("utf-8", "replace"))
        raise ServerFailed(f"[openai] expected JSON from {path}, got {text!r}") from err


def error_message(data: bytes) -> str:
    """Return what a server's error body says, in whichever of the usual shapes."""
    text = data[: 1 << 14].decode("utf-8", "replace")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return shown(text)
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    return shown(value if isinstance(value, str) else json.dumps(value))


def shown(text: str) -> str:
    """A server's text as it may stand in an error: one line, printable, and not long."""
    return printable(" ".join(text.split()))
