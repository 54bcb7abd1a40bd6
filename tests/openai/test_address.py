"""Addresses: plain http to a host and a port, and no other machine's name in a record."""

from __future__ import annotations

import pytest

from edgebench.errors import SpecError
from edgebench.openai.address import parse_url


@pytest.mark.parametrize(
    ("url", "host", "port", "is_loopback"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("http://localhost:8000/v1/", "localhost", 8000, True),
        ("http://[::1]:1", "::1", 1, True),
        ("http://10.0.0.2", "10.0.0.2", 80, False),
        ("http://box.example:80", "box.example", 80, False),
    ],
)
def test_what_is_read(url: str, host: str, port: int, is_loopback: bool) -> None:
    address = parse_url(url)
    assert (address.host, address.port, address.is_loopback) == (host, port, is_loopback)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080", "https://127.0.0.1", "http://", "http://u:p@127.0.0.1", "http://h/v2",
        "http://h?x=1", "http://h:notaport", "http://[::1", "file:///etc/passwd", "",
    ],
)  # fmt: skip
def test_what_is_refused(url: str) -> None:
    with pytest.raises(SpecError, match=r"expected --url http://HOST:PORT"):
        parse_url(url)


def test_another_machine_stays_nameless() -> None:
    assert parse_url("http://box.example:80").shown == "http://REMOTE:80"
    assert parse_url("http://[::1]:8").shown == "http://[::1]:8"
