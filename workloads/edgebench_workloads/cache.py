"""Keeps what is generated once: a directory is there complete, or it is not there.

A directory is built under another name while a lock is held, then renamed, which POSIX does at
once. Whoever comes second waits and finds it done; what an interrupted build left is removed by the
next.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebench_workloads.errors import WorkloadAssetError

CACHE_VARIABLE = "EDGEBENCH_CACHE"


def cache_root(cache: Path | None = None) -> Path:
    """The given directory, else $EDGEBENCH_CACHE, else ~/.cache/edgebench."""
    if cache is not None:
        return cache
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "edgebench"


def build_once(directory: Path, build: Callable[[Path], None]) -> None:
    """Make `directory` by `build(empty directory)`, unless it is there already."""
    if directory.exists():
        return
    partial = directory.with_name(directory.name + ".partial")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(directory.with_name(directory.name + ".lock")):
            if directory.exists():
                return
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                build(partial)
                partial.rename(directory)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as err:
        raise WorkloadAssetError(
            f"[{directory}] cannot be generated: {err.strerror}; free space there, or set "
            f"{CACHE_VARIABLE} to a directory that is writable and has room"
        ) from err


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold an advisory lock, waiting for it; a killed process releases it too."""
    import fcntl  # absent on Windows, where only generating fails

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
