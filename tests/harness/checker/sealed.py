"""The files of a test's bundle: tensors with whatever rides along, checksums over them all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors.numpy import save

from edgebench_kernels.formats import Int4Tensor


def tensors_bytes(
    tensors: Mapping[str, Int4Tensor],
    beside: Mapping[str, npt.NDArray[Any]] | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    parts: dict[str, npt.NDArray[Any]] = dict(beside or {})
    for name, tensor in tensors.items():
        parts[f"{name}.qweight"] = tensor.qweight
        parts[f"{name}.scale"] = tensor.scale
        parts[f"{name}.zero"] = tensor.zero
    return save(parts, metadata)


def seal(folder: Path) -> None:
    """Write SHA256SUMS over whatever lies in a folder."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "SHA256SUMS").write_text("".join(f"{sha}  {name}\n" for name, sha in sums.items()))
