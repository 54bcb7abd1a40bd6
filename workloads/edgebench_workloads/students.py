"""Students on disk: read with what their training cost, every hash verified.

    FOLDER/model.safetensors  FOLDER/config.json  FOLDER/training.json

`training.json` holds the sha256 of the weights. One that a workload ships is pinned besides, in
`student.toml`: `task.toml` is left alone, since its own hash stands in every bundle.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edgebench_workloads.assistant.student import TRAINING_FILE, WEIGHTS, TrainingCost
from edgebench_workloads.errors import WorkloadAssetError
from edgebench_workloads.task import Sha256, StrictModel
from edgebench_workloads.weights import verify

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

FOLDER, PINS = "student", "student.toml"
MAX_SIZE_BYTES = 8_000_000  # ours: what a student that is shipped may weigh


class StudentHashes(StrictModel):
    """The shipped student by content."""

    size_bytes: int
    sha256: Sha256
    """Of model.safetensors, as size_bytes."""
    config_sha256: Sha256
    training_sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A folder whose weights are those that its training.json speaks of."""

    directory: Path
    weights_sha256: str
    """Of model.safetensors."""
    cost: TrainingCost


_COST: TypeAdapter[TrainingCost] = TypeAdapter(TrainingCost)


def read_student(directory: Path) -> Student:
    """Read a student's folder; nothing in it but safetensors and JSON is opened.

    Raises WorkloadAssetError naming the file that is missing, malformed or altered.
    """
    path = directory / TRAINING_FILE
    what_to_do = "give a folder that edgebench_workloads.assistant.distill wrote"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        weights_sha256 = str(raw.pop("student_sha256"))
        cost = _COST.validate_json(json.dumps(raw), strict=True)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as err:
        raise WorkloadAssetError(
            f"[{path}] expected what a student's training cost, got {_why(err)}; {what_to_do}"
        ) from err
    if cost.examples != cost.steps * cost.batch:
        raise WorkloadAssetError(
            f"[{path}] expected examples = steps x batch = {cost.steps * cost.batch}, got "
            f"{cost.examples}; {what_to_do}"
        )
    verify(directory / WEIGHTS, sha256=weights_sha256, size_bytes=None, what_to_do=what_to_do)
    return Student(directory=directory, weights_sha256=weights_sha256, cost=cost)


def shipped_student(workload_folder: Path) -> Student | None:
    """The student that lies beside a workload's reference, its pins verified; None: it has none."""
    pins = workload_folder / PINS
    if not pins.exists():
        return None
    try:
        hashes = StudentHashes.model_validate(tomllib.loads(pins.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as err:
        raise WorkloadAssetError(f"[{pins}] expected the student's hashes, got {err}") from err
    directory = workload_folder / FOLDER
    for name, sha256, size in (
        (WEIGHTS, hashes.sha256, hashes.size_bytes),
        ("config.json", hashes.config_sha256, None),
        (TRAINING_FILE, hashes.training_sha256, None),
    ):
        verify(directory / name, sha256=sha256, size_bytes=size, what_to_do="reinstall edgebench")
    return read_student(directory)


def _why(err: Exception) -> str:
    if isinstance(err, ValidationError):
        fault = err.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return f"{type(err).__name__} {err}"
