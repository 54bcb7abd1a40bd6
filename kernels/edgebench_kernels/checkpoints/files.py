"""The files of a Hugging Face directory: config.json and safetensors; nothing is ever unpickled."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"-\d+-of-\d+\.")  # in the name of a file that holds a part
_SHOWN = 3  # names in a message
_AGAIN = "the download or the copy is not whole: download the model again"
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
        if path.parent != directory or path.is_dir():
            raise ValueError(f"[checkpoint] {index} names {path.name!r}, not a file beside it")
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise ValueError(
            f"[checkpoint] {index} names {len(paths)} files, and {_shown(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not there; {_AGAIN}"
        )
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
    """Why a directory has no weights that are read here, and what to do."""
    if not directory.is_dir():
        return f"[checkpoint] no directory at {directory}"
    for name in (WEIGHTS, INDEX):
        if (directory / name).is_symlink():
            target = (directory / name).readlink()
            return (
                f"[checkpoint] expected weights in {directory}, got {name} as a link to {target}, "
                f"where there is no file; {_AGAIN}"
            )
    found = sorted(directory.iterdir())
    stored = [path for path in found if path.suffix == Path(WEIGHTS).suffix]
    shards = [path for path in stored if _SHARD.search(path.name)]
    if shards:
        return (
            f"[checkpoint] expected {INDEX} in {directory}, which says what lies in which file, "
            f"got {_shown(shards)} without it; download or copy it too"
        )
    if stored:
        return (
            f"[checkpoint] expected {WEIGHTS} in {directory}, got {_shown(stored)}; if that is the "
            f"whole model, name it {WEIGHTS}"
        )
    pickled = [path for path in found if path.suffix in _PICKLED]
    if pickled:
        return (
            f"[checkpoint] no {WEIGHTS} in {directory}; only safetensors are read, never pickled "
            f"weights, and {_shown(pickled)} stays closed; save the model with "
            "safe_serialization=True"
        )
    return (
        f"[checkpoint] expected {WEIGHTS} in {directory}, got no weights at all, and only "
        f"safetensors are read; {_AGAIN}"
    )


def _shown(paths: Sequence[Path]) -> str:
    """The first names, and how many more."""
    names = ", ".join(path.name for path in paths[:_SHOWN])
    return names + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
