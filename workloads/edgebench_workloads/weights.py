"""Checkpoint files: written tensor by tensor, hashed while written, verified before use.

A safetensors file is an 8-byte little-endian header length, a JSON header padded with spaces to a
multiple of 8, and the tensors' bytes without holes (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgebench_workloads.errors import WorkloadAssetError

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a finished file holds."""

    size_bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def verify(path: Path, *, sha256: str, size_bytes: int | None, what_to_do: str) -> None:
    """Raise WorkloadAssetError unless the file has that size and that SHA-256."""
    try:
        size = path.stat().st_size
        if size_bytes is not None and size < size_bytes:
            came = f"got {size} bytes (truncated)"
        elif size_bytes is not None and size > size_bytes:
            came = f"got {size} bytes (too long)"
        elif (found := sha256_of(path)) != sha256:
            came = f"got sha256 {found} (altered)"
        else:
            return
    except FileNotFoundError:
        came = "it is missing"
    except OSError as err:
        came = f"it cannot be read ({err.strerror})"
    wanted = f"sha256 {sha256}" if size_bytes is None else f"{size_bytes} bytes, sha256 {sha256}"
    raise WorkloadAssetError(f"[{path}] expected {wanted}, {came}; {what_to_do}")


def write_fp16(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[npt.NDArray[np.float16]],
    progress: Progress | None = None,
) -> Written:
    """Write fp16 tensors, in the order of `shapes`, holding one at a time in memory."""
    header = _header(shapes)
    total = len(header) + sum(2 * prod(shape) for shape in shapes.values())
    digest = hashlib.sha256(header)
    done = len(header)
    with path.open("wb") as file:
        file.write(header)
        for (name, shape), tensor in zip(shapes.items(), tensors, strict=True):
            if tensor.shape != shape or tensor.dtype != np.float16:
                came = f"{tensor.dtype} {tensor.shape}"
                raise ValueError(f"[{path}] {name} must be float16 {shape}, got {came}")
            payload = np.ascontiguousarray(tensor, dtype="<f2").data.cast("B")
            for start in range(0, len(payload), 16 * _BLOCK):
                block = payload[start : start + 16 * _BLOCK]
                file.write(block)
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
    return Written(size_bytes=done, sha256=digest.hexdigest())


def _header(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * prod(shape)
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
