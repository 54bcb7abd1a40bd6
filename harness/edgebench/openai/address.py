"""The address of a server: plain http, a host, a port, and no secrets."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgebench.errors import SpecError

HTTP_PORT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether the server runs on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def shown(self) -> str:
        """The URL as a record may hold it: another machine's name or address is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host if self.is_loopback else 'REMOTE'}:{self.port}"


def parse_url(url: str) -> Address:
    """Read `http://HOST:PORT`, with or without `/v1` behind it; SpecError for anything else."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as err:
        raise _unusable(url, str(err)) from err
    if parts.scheme != "http" or not host:
        raise _unusable(url, "not plain http with a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _unusable(url, "more than a host and a port")
    if parts.path.rstrip("/") not in ("", "/v1"):
        raise _unusable(url, f"the path {parts.path}")
    return Address(host=host, port=HTTP_PORT if port is None else port)


def _unusable(url: str, why: str) -> SpecError:
    return SpecError(
        f"[openai] expected --url http://HOST:PORT, got {url!r}: {why}; "
        "the API's own paths (/v1/completions) are added to it"
    )
