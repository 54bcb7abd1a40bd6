"""The files of a Hugging Face directory: config.json and safetensors; nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ValueError naming the file and what is wrong."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ValueError(f"[checkpoint] no {path.name} at {path}") from err
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise ValueError(f"[checkpoint] {path} is not readable JSON: {err}") from err
    if not isinstance(raw, dict):
        raise ValueError(f"[checkpoint] {path} must hold a JSON object, got {type(raw).__name__}")
    return raw


def weight_files(directory: Path) -> list[Path]:
    """`model.safetensors`, or the shards that its index names; ValueError where there are none."""
    single, index = directory / WEIGHTS, directory / INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ValueError(_no_weights(directory))
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        paths = [directory / shard for shard in shards]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as err:
        raise ValueError(f"[checkpoint] {index} is not a safetensors index: {err!r}") from err
    if not paths:
        raise ValueError(f"[checkpoint] {index} is not a safetensors index: it names no file")
    for path in paths:
        if path.parent != directory or not path.is_file():
            raise ValueError(f"[checkpoint] {index} names {path.name!r}, not a file beside it")
    return paths


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Every tensor of the checkpoint, as views into the memory-mapped files."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 (safe_open is not a mapping)
                    if name in tensors:
                        raise ValueError(
                            f"[checkpoint] tensor {name} is in two files of {directory}"
                        )
                    tensors[name] = stored.get_tensor(name)
        except (SafetensorError, OSError) as err:
            raise ValueError(f"[checkpoint] {path} is not a whole safetensors file: {err}") from err
    return tensors


def _no_weights(directory: Path) -> str:
    if not directory.is_dir():
        return f"[checkpoint] no directory at {directory}"
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLED)
    seen = f" and {', '.join(pickled[:3])} stays closed" if pickled else ""
    return (
        f"[checkpoint] no {WEIGHTS} in {directory}; only safetensors are read, never pickled "
        f"weights{seen}; save the model with safe_serialization=True"
    )
