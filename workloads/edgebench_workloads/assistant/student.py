"""The student as it is shipped: fp16 weights, a config, what its training cost.

    student/model.safetensors  fp16, tensors named as transformers names them
    student/config.json        the reference's with fewer layers
    student/training.json      TrainingCost, and the sha256 of model.safetensors

Its tokenizer is the reference's.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgebench_workloads.weights import sha256_of

WEIGHTS, TRAINING_FILE = "model.safetensors", "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCost:
    """What a student's training took, and what it was."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    teacher_sha256: str
    """Of the reference's model.safetensors."""
    examples: int
    steps: int
    planned_steps: int
    """The schedule's; as many as `steps` once the run is over."""
    cpu_minutes: float
    """Of all processes, those that draw examples included."""
    minutes: float
    """On the wall."""
    device: str
    """What multiplied: cpu, or a GPU by its name."""
    first_loss: float
    """Nats per answer token, mean of the first tenth of the steps."""
    last_loss: float
    """Of the last tenth."""
    torch_version: str
    seed: int
    batch: int
    peak_rate: float
    temperature: float
    hard_share: float
    validation_exact_match_percent: float
    """Of 500 validation examples, teacher-forced."""


def write_student(model: Any, cost: TrainingCost, folder: Path) -> None:
    """Write the three files; replaces the folder once they are complete."""
    fresh, old = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    copy.deepcopy(model).cpu().half().save_pretrained(fresh)
    (fresh / "generation_config.json").unlink(missing_ok=True)
    written = {"student_sha256": sha256_of(fresh / WEIGHTS), **asdict(cost)}
    (fresh / TRAINING_FILE).write_text(json.dumps(written, indent=1) + "\n")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
