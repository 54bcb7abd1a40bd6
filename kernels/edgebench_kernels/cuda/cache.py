"""Keeps cubins on disk: an entry is there complete, or it is not there.

An entry is written under another name and renamed, which POSIX does at once, so any number of
processes may write the same one. Its first line holds the sha256 of the rest: a damaged entry
counts as absent, and is written anew.

Environment, read at every use:
    EDGEBENCH_CACHE   the folder, instead of $XDG_CACHE_HOME/edgebench or ~/.cache/edgebench
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

CACHE_VARIABLE = "EDGEBENCH_CACHE"
_FOLDER = "cubins"


def cache_folder() -> Path:
    """Where cubins are kept; it need not exist."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named) / _FOLDER
    xdg = os.environ.get("XDG_CACHE_HOME")
    # "All paths must be absolute ... otherwise ignore": XDG Base Directory Specification
    base = Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".cache"
    return base / "edgebench" / _FOLDER


def read(key: str) -> bytes | None:
    """What was written under `key`; None where nothing was, or it is damaged or unreadable."""
    try:
        entry = _path(key).read_bytes()
    except OSError:
        return None
    digest, _, content = entry.partition(b"\n")
    return content if digest == _digest(content) else None


def write(key: str, content: bytes) -> None:
    """Keep `content` under `key`; where the folder cannot be written, warn: it is only slower."""
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=f".{key[:8]}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_digest(content) + b"\n" + content)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as err:
        warnings.warn(
            f"[cuda] {path.parent} cannot be written ({err.strerror}), so every process compiles "
            f"its kernels anew; set {CACHE_VARIABLE} to a folder that is writable and has room",
            stacklevel=2,
        )


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _path(key: str) -> Path:
    return cache_folder() / key[:2] / key
