"""Students for the open track: found, verified, and named by what they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from edgebench.errors import AssetError, SpecError
from edgebench.open_model import Fp16
from edgebench.record import Training
from edgebench.transform import TransformChain, TransformSpec
from edgebench.transform.distill import named_by, read_distill
from edgebench.transform.quantized import array_sha256, lines_sha256
from edgebench_workloads.errors import WorkloadError
from edgebench_workloads.students import Student, read_student

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig, LlamaWeights

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lecture:
    """A student's weights with what the ledger says of its training."""

    weights: LlamaWeights
    directory: Path
    training: Training


def named(chain: TransformChain) -> TransformChain:
    """The chain with each student's folder beside the name that records give it.

    Raises SpecError for a folder that holds no student.
    """
    return TransformChain(steps=tuple(map(_named, chain.steps)))


def _named(step: TransformSpec) -> TransformSpec:
    folder = read_distill(step.parameters).folder if step.name == "distill" else None
    if folder is None:
        return step
    if not folder.is_dir():
        raise SpecError(
            f"[distill] expected student to be a folder, got {folder}, which is none; give what "
            "edgebench_workloads.assistant.distill wrote, or omit it for the shipped student"
        )
    student = opened(folder)
    name = named_by(tensors_sha256(student))
    return replace(step, parameters={"student": name}, folder=folder)


def opened(folder: Path) -> Student:
    """A folder's student; SpecError says what it lacks."""
    try:
        return read_student(folder)
    except WorkloadError as err:
        raise SpecError(str(err)) from err


def student_of(step: TransformSpec, shipped: Student | None) -> Student:
    """The student that a step asks for."""
    if step.folder is not None:
        return opened(step.folder)
    request = read_distill(step.parameters)
    if request.student.startswith("sha256:"):
        raise SpecError(
            f"[distill] expected the folder of the student that a record calls {request.student}; "
            "give it: distill:student=FOLDER"
        )
    if shipped is None:
        raise SpecError("[distill] expected a workload that ships a student; give student=FOLDER")
    return shipped


def attend(student: Student, reference: LlamaConfig, reference_sha256: str) -> Lecture:
    """Load a student and hold it against the reference that it must have learnt from.

    Raises SpecError for another teacher, another vocabulary or a shape that its config denies, and
    AssetError for weights that are no finite fp16 numbers.
    """
    from edgebench_kernels.engine import load_reference, read_config

    cost, folder = student.cost, student.directory
    if cost.teacher_sha256 != reference_sha256:
        raise SpecError(
            f"[distill] expected a student of the reference {reference_sha256}, got one of "
            f"{cost.teacher_sha256}; distill from this workload's reference"
        )
    try:
        config = read_config(folder / "config.json")
        if config.vocab_size != reference.vocab_size:
            raise SpecError(
                f"[distill] expected the reference's vocabulary of {reference.vocab_size} tokens, "
                f"got {config.vocab_size}; a student answers in its teacher's words"
            )
        broken = [n for n, array in arrays_of(student).items() if not np.isfinite(array).all()]
        if broken:
            raise AssetError(
                f"[distill] expected finite weights, got others in {broken[0]}; train the student "
                "again at a lower rate"
            )
        weights = load_reference(folder)
    except ValueError as err:
        raise SpecError(f"[distill] {err}") from err
    return Lecture(weights=weights, directory=folder, training=training_of(student))


def training_of(student: Student) -> Training:
    """What a student's training cost, in the ledger's words."""
    cost = student.cost
    return Training(
        teacher_sha256=cost.teacher_sha256,
        student_sha256=student.weights_sha256,
        examples=cost.examples,
        steps=cost.steps,
        cpu_s=60 * cost.cpu_minutes,
        device=cost.device,
        first_loss=cost.first_loss,
        last_loss=cost.last_loss,
    )


def arrays_of(student: Student) -> dict[str, Fp16]:
    """Every tensor, fp16; SpecError where one is not, or the file is none."""
    try:
        with safe_open(student.directory / WEIGHTS, framework="numpy") as file:
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as err:
        raise SpecError(f"[distill] expected readable fp16 tensors, got {err}") from err
    other = [name for name, array in arrays.items() if array.dtype != np.float16]
    if other:
        raise SpecError(f"[distill] expected fp16 weights, got {arrays[other[0]].dtype} {other[0]}")
    return arrays


def tensors_sha256(student: Student) -> str:
    """Hash a student by its tensors, as the ledger does."""
    return lines_sha256({name: array_sha256(a) for name, a in arrays_of(student).items()})
