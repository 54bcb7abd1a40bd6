"""Where a model named by a path or a hub id lies on this machine; nothing is ever downloaded.

Source of the cache's layout: huggingface.co/docs/huggingface_hub, "Understand caching":
models--OWNER--NAME/refs/REVISION holds a commit, snapshots/COMMIT its files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from edgebench_workloads.errors import UnknownWorkloadError, WorkloadAssetError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = "main"


def find_model(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The directory of a model: the path itself, or a hub id's snapshot in the local cache.

    Raises UnknownWorkloadError for what is neither, WorkloadAssetError where the hub id is not in
    the cache; the text says how to get it there.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not (path / "config.json").is_file():
            raise UnknownWorkloadError(
                f"[llm] expected --model to be a directory with config.json and safetensors, got "
                f"{name!r}, which has no config.json; give the one that a model was saved to"
            )
        return path
    if path.is_file():
        raise UnknownWorkloadError(
            f"[llm] expected --model to be a directory with config.json and safetensors, "
            f"got the file {name!r}; give the directory that it lies in"
        )
    if _HUB_ID.fullmatch(name) is None:
        raise UnknownWorkloadError(
            f"[llm] expected --model to be a directory or a hub id such as owner/name, got {name!r}"
            ", and there is no such directory"
        )
    cache = hub_cache(environment)
    snapshot = _snapshot(cache / f"models--{name.replace('/', '--')}")
    if snapshot is None:
        raise WorkloadAssetError(
            f"[llm] {name!r} is no directory here, and the hub's cache {cache} does not hold it; "
            f"nothing is downloaded while measuring: run 'hf download {name}' where there is a "
            "network, or copy the model here and give its directory"
        )
    return snapshot


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """The hub's cache, where its own tools put it: HF_HUB_CACHE, HF_HOME/hub, the home."""
    if environment.get("HF_HUB_CACHE"):
        return Path(environment["HF_HUB_CACHE"]).expanduser()
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]).expanduser() / "hub"
    home = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "huggingface" / "hub"


def _snapshot(repository: Path) -> Path | None:
    """The files of the branch main, if the cache has them."""
    try:
        commit = (repository / "refs" / _REVISION).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    folder = repository / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None
