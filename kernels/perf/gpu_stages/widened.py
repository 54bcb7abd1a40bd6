"""A widened model made on all CPUs, quantized as it is made, without what `task.toml` needs to be
checked strictly: a machine with a GPU may lack pydantic.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.engine.config import LlamaConfig, parse_config
from edgebench_kernels.formats import Int4Tensor, choose_group
from edgebench_kernels.native import default_threads
from edgebench_kernels.quantize import quantize_rtn
from edgebench_workloads.widen import WidenPlan, config_bytes, widen_config, widen_tensor

DONE = "done.json"
PARTS = ("qweight", "scale", "zero")
MOST_PROCESSES = 16
_NOT_LINEAR = re.compile("embed_tokens|norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A variant of a task, as its `task.toml` says."""

    plan: WidenPlan
    standard: float
    max_new_tokens: int


def read_variant(task: Mapping[str, Any], name: str) -> Variant:
    """A decoded `task.toml`'s."""
    row = task["variants"][name]
    fields = ("replicas", "noise", "outlier_factor", "outlier_channels", "seed")
    return Variant(
        plan=WidenPlan(**{field: row[field] for field in fields}),
        standard=float(task["targets"]["standard"]),
        max_new_tokens=int(task["max_new_tokens"]),
    )


def write(source: Path, folder: Path, plan: WidenPlan) -> dict[str, Any]:
    """Every tensor widened, linears quantized too, as .npy files; then DONE."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_bytes(config_bytes(widen_config(config, plan.replicas)))
    names = tensor_names(source)
    processes = max(1, min(default_threads(), MOST_PROCESSES))
    context = multiprocessing.get_context("spawn")
    jobs = [(source, folder, name, plan) for name in names]
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        sizes = list(pool.map(_write_tensor, jobs))
    (folder / DONE).write_text(json.dumps(names))
    return {"tensors": len(names), "parameters": sum(sizes), "processes": processes}


def tensor_names(source: Path) -> list[str]:
    """Of a checkpoint, large ones first."""
    from safetensors import safe_open

    with safe_open(source / "model.safetensors", framework="numpy") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118
    return sorted(shapes, key=lambda name: -int(np.prod(shapes[name])))


def _write_tensor(job: tuple[Path, Path, str, WidenPlan]) -> int:
    from safetensors import safe_open

    source, folder, name, plan = job
    with safe_open(source / "model.safetensors", framework="numpy") as stored:
        wide = widen_tensor(name, stored.get_tensor(name), plan)
    np.save(folder / f"{name}.npy", wide)
    if not _NOT_LINEAR.search(name):
        tensor = quantize_rtn(wide, choose_group(wide.shape[1]))
        for part in PARTS:
            np.save(folder / f"{name}.{part}.npy", getattr(tensor, part))
    return int(wide.size)


def is_done(folder: Path) -> bool:
    """Whether `write` came to its end."""
    return (folder / DONE).exists()


def config(folder: Path) -> LlamaConfig:
    """The widened model's."""
    return parse_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def tensors(folder: Path) -> dict[str, NDArray[np.float16]]:
    """All of them, mapped."""
    names = json.loads((folder / DONE).read_text())
    return {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in names}


def quantized(folder: Path) -> dict[str, Int4Tensor]:
    """Each linear in 4 bits."""
    found = {}
    for name in json.loads((folder / DONE).read_text()):
        if not _NOT_LINEAR.search(name):
            parts = {part: np.load(folder / f"{name}.{part}.npy") for part in PARTS}
            group = 2 * parts["qweight"].shape[1] // parts["scale"].shape[1]
            found[name] = Int4Tensor(group=group, **parts)
    return found


def fingerprint(folder: Path) -> str:
    """The sha256 of all weights' bytes in the order of their names, to name what was run."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors(folder).items()):
        digest.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()
