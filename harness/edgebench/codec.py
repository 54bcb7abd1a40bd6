"""Files read strictly and written safely: JSON without NaN or repeated keys, atomic replacement."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from edgebench.errors import BundleError, StorageError, WriteFailed

Model = TypeVar("Model", bound=BaseModel)

MAX_DEPTH = 32  # our deepest file nests 6 levels
MAX_LINE_BYTES = 1 << 16  # a sample row of 4,096 ids is 28 kB
SHOWN_CHARACTERS = 80  # of a refused value in a message
_CHUNK_BYTES = 1 << 20
_ELSEWHERE = frozenset(  # errors of a place, not of its disk
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST}
)


# ----------------------------------------------------------------------------------------- reading


def open_plain(path: Path, *, dir_fd: int | None = None) -> int:
    """Open a regular file for reading without following a link; BundleError names what it is."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, dir_fd=dir_fd)
    except OSError as err:
        reason = "a symbolic link" if err.errno == errno.ELOOP else err.strerror
        raise BundleError(f"[{path.name}] expected a plain readable file, got {reason}") from err
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleError(f"[{path.name}] expected a plain file, got something else")
    return descriptor


def read_capped(path: Path, limit_bytes: int, *, dir_fd: int | None = None) -> bytes:
    """Read a whole plain file of at most `limit_bytes`; the size is looked at before reading."""
    with os.fdopen(open_plain(path, dir_fd=dir_fd), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise BundleError(f"[{path.name}] expected at most {limit_bytes} bytes, got {size}")
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise BundleError(f"[{path.name}] expected at most {limit_bytes} bytes, and it grew")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"expected a finite number, got {name}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {text[:SHOWN_CHARACTERS]}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"expected every key once, got {twice[:SHOWN_CHARACTERS]!r} twice")
    return unique


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
)


def _depth(text: str) -> int:
    """Return how deep brackets nest outside strings, without recursion."""
    deepest = depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def parse_json(data: bytes, where: str) -> object:
    """Parse strict JSON: UTF-8, finite numbers, no repeated key, at most MAX_DEPTH levels."""
    try:
        text = data.decode("utf-8")
        # Counting brackets first is cheap, and enough for a row of samples.
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
            raise ValueError(f"expected at most {MAX_DEPTH} levels of nesting, got more")
        value: object = _DECODER.decode(text)
        if "\\u" in text:  # a lone surrogate would break every page that shows it
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as err:
        message = " ".join(str(err).split())[:200]
        raise BundleError(f"[{where}] expected strict JSON: {message}") from err
    return value


def describe_invalid(err: ValidationError) -> str:
    """Say in one line which field was wrong, what was expected there, and what came."""
    first, *others = err.errors(include_url=False, include_context=False)
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    field = "".join(c if c.isprintable() else "?" for c in field)[:SHOWN_CHARACTERS]
    came = repr(first["input"])
    if len(came) > SHOWN_CHARACTERS:
        came = came[:SHOWN_CHARACTERS] + "..."
    more = f" (and {len(others)} more)" if others else ""
    message = first["msg"].replace("\n", " ")
    return f"{field}: {message[:1].lower()}{message[1:]}, got {came}{more}"


def parse_model(model: type[Model], data: bytes, where: str) -> Model:
    """Parse strict JSON into a strict model; BundleError names field, expected and came."""
    parse_json(data, where)
    try:
        return model.model_validate_json(data)
    except ValidationError as err:
        raise BundleError(f"[{where}] {describe_invalid(err)}") from err


def parse_rows(model: type[Model], data: bytes, where: str, max_rows: int) -> Iterator[Model]:
    """Parse JSON Lines, one strict model a line; every line ends with a newline."""
    if data and not data.endswith(b"\n"):
        raise BundleError(f"[{where}] expected the last line to end with a newline: truncated")
    if (rows := data.count(b"\n")) > max_rows:
        raise BundleError(f"[{where}] expected at most {max_rows} rows, got {rows}")
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        if len(line) > MAX_LINE_BYTES:
            raise BundleError(f"[{where}:{number}] expected at most {MAX_LINE_BYTES} bytes a line")
        yield parse_model(model, line, f"{where}:{number}")


# ----------------------------------------------------------------------------------------- writing


def encode_model(model: BaseModel) -> bytes:
    """Return a model as readable JSON, two spaces deep, newline at the end."""
    return model.model_dump_json(indent=2).encode() + b"\n"


def encode_row(model: BaseModel) -> bytes:
    """Return a model as one JSON line."""
    return model.model_dump_json().encode() + b"\n"


def canonical_json(value: object) -> bytes:
    """Return the one byte string of a JSON value: sorted keys, no spaces, UTF-8; for hashing."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def storage_error(path: Path, err: OSError) -> StorageError:
    """Turn an OSError of a write into an error that says what to do."""
    where = f"[storage] expected to write {path}, got"
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        return WriteFailed(f"{where} a full disk; free some space, then start again")
    if err.errno in _ELSEWHERE:
        return StorageError(f"{where} {err.strerror}; choose another folder")
    return WriteFailed(f"{where} {err.strerror or err}; check the disk, then start again")


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte and wait until the disk has them."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file so that a reader sees the old bytes or the new ones, never half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o644)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
        draft.replace(path)
        _sync_folder(path.parent)
    except OSError as err:
        draft.unlink(missing_ok=True)
        raise storage_error(path, err) from err


def write_quickly(path: Path, data: bytes) -> None:
    """Replace a file at once without waiting for the disk: for what is made again in a minute."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as err:
        draft.unlink(missing_ok=True)
        raise storage_error(path, err) from err


def append_synced(path: Path, data: bytes) -> int:
    """Append to a file, wait for the disk, return the new size; a failed append leaves no trace."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        try:
            before = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, data)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
            return before + len(data)
        finally:
            os.close(descriptor)
    except OSError as err:
        raise storage_error(path, err) from err


def make_folder(path: Path) -> None:
    """Create a folder with its parents; StorageError says why it could not be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise storage_error(path, err) from err


# ----------------------------------------------------------------------------------------- hashing


def sha256_bytes(data: bytes) -> str:
    """Return the sha256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path, *, dir_fd: int | None = None) -> str:
    """Return the sha256 of a plain file, in hex, reading it in chunks."""
    digest = hashlib.sha256()
    with os.fdopen(open_plain(path, dir_fd=dir_fd), "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
