"""Whether another EdgeBench run shared this machine: noticed and recorded, never prevented.

Every run holds a shared lock on one file of the machine for as long as it lasts and appends one
byte to it. At the start an exclusive lock can be had only if no other run holds its shared one; at
the end the same, and a file that has grown tells of runs that began, or came and went, meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType

DIRECTORY = Path("/tmp")  # the same for every user; TMPDIR often is not
FILE_NAME = "edgebench.lock"
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # no planted link, no planted pipe


class MachineLock:
    """Holds this run's mark on the machine; `other_runs_seen` is final after the block.

    `unavailable` says why runs could not be watched (no such directory, a planted link), else None.
    """

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.other_runs_seen = False
        self.unavailable: str | None = None
        self._path = directory / FILE_NAME
        self._file: int | None = None
        self._size = 0

    def __enter__(self) -> MachineLock:
        try:
            self._file = _open(self._path)
            alone = _try_exclusive(self._file)
            fcntl.flock(self._file, fcntl.LOCK_SH)
            self.other_runs_seen = not alone
            self._size = _mark(self._file, restart=alone)
        except OSError as err:
            self.unavailable = f"{self._path}: {err.strerror or err}"
        return self

    def check(self) -> bool:
        """Look again, for instance between two blocks; return `other_runs_seen`."""
        if self._file is not None and os.fstat(self._file).st_size > self._size:
            self.other_runs_seen = True
        return self.other_runs_seen

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        self.check()
        if not _try_exclusive(self._file):
            self.other_runs_seen = True
        os.close(self._file)
        self._file = None


def _open(path: Path) -> int:
    """Open the machine's file, made usable by every user; OSError for anything but a plain file.

    It is opened before it is created: `fs.protected_regular` refuses O_CREAT on another user's file
    in a sticky directory. A file that may only be read still carries the lock.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | _FLAGS)
    except FileNotFoundError:
        file = _create(path)
    except PermissionError:
        file = os.open(path, os.O_RDONLY | _FLAGS)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{path} is not a plain file")
    return file


def _create(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
    except FileExistsError:  # another run was faster
        return os.open(path, os.O_RDWR | os.O_APPEND | _FLAGS)
    os.fchmod(file, 0o666)  # the umask took the other users' bits
    return file


def _try_exclusive(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _mark(file: int, *, restart: bool) -> int:
    """Append this run's byte, on an empty file if it is alone; return the size after it."""
    if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
        if restart:
            os.ftruncate(file, 0)
        os.write(file, b".")
    return os.fstat(file).st_size
