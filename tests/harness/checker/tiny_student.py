"""A student of the tiny Llama: one layer of two, with a training of its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgebench_workloads.assistant.student import TrainingCost
from edgebench_workloads.students import Student, read_student
from edgebench_workloads.weights import sha256_of
from tests.transform.conftest import write_checkpoint

COST = TrainingCost(
    teacher_sha256="a" * 64,
    examples=640,
    steps=10,
    planned_steps=10,
    cpu_minutes=0.5,
    minutes=0.25,
    device="cpu",
    first_loss=2.0,
    last_loss=1.0,
    torch_version="2.13.0",
    seed=1,
    batch=64,
    peak_rate=1e-3,
    temperature=2.0,
    hard_share=0.5,
    validation_exact_match_percent=50.0,
)


def write_student(folder: Path, **changes: Any) -> Student:
    """Write it; `changes` go into its config."""
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(folder, **{"num_hidden_layers": 1, **changes})
    write_cost(folder)
    return read_student(folder)


def write_cost(folder: Path, **changes: Any) -> None:
    """Write training.json for the weights that lie there."""
    weights = sha256_of(folder / "model.safetensors")
    told = {"student_sha256": weights, **asdict(COST), **changes}
    (folder / "training.json").write_text(json.dumps(told))
