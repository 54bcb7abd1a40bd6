"""Students for the open track: found, verified, named by what they hold, and kept by that name.

    CACHE/students/0123456789ab/   model.safetensors  config.json  training.json

A record names a student by its tensors. Whoever ran it once here needs not give its folder again:
a copy is kept, and what is read must have the tensors that its name tells.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from edgebench.errors import AssetError, SpecError
from edgebench.open_model import Fp16
from edgebench.record import Training
from edgebench.transform import TransformChain, TransformSpec
from edgebench.transform.distill import BY_TENSORS, named_by, read_distill
from edgebench.transform.quantized import array_sha256, lines_sha256
from edgebench_workloads.assistant.student import TRAINING_FILE
from edgebench_workloads.cache import build_once, cache_root
from edgebench_workloads.errors import WorkloadAssetError, WorkloadError
from edgebench_workloads.students import Student, read_student

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig, LlamaWeights

WEIGHTS = "model.safetensors"
FOLDER = "students"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lecture:
    """A student's weights with what the ledger says of its training."""

    weights: LlamaWeights
    directory: Path
    training: Training


def named(chain: TransformChain) -> TransformChain:
    """The chain with each student's folder beside the name that records give it.

    A name is looked up among the students kept here; an unknown one is left as it is, and
    `student_of` says so. Raises SpecError for a folder that holds no student.
    """
    return TransformChain(steps=tuple(map(_named, chain.steps)))


def given(chain: TransformChain, folder: Path | None) -> TransformChain:
    """`named`, with the folder that somebody gives for the student which the chain names.

    Raises SpecError where the chain names none, or another.
    """
    if folder is None:
        return named(chain)
    came = named_by(tensors_sha256(opened(folder)))
    wanted = [s for s in chain.steps if s.name == "distill" and s.parameters.get("student") == came]
    if not wanted:
        raise SpecError(
            f"[--student] expected a student of the chain {chain}, got {came}; give the folder "
            "whose student the record names, or leave --student out"
        )
    return TransformChain(
        steps=tuple(
            replace(step, folder=folder) if step in wanted else _named(step) for step in chain.steps
        )
    )


def _named(step: TransformSpec) -> TransformSpec:
    request = read_distill(step.parameters) if step.name == "distill" else None
    if request is None or step.folder is not None:
        return step
    folder = request.folder
    if folder is None:
        return replace(step, folder=kept(request.student))
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


def kept(name: str) -> Path | None:
    """The folder of a student that was kept under that name; None where none is whole."""
    if not BY_TENSORS.fullmatch(name):
        return None
    folder = _place(name)
    try:
        return folder if named_by(tensors_sha256(opened(folder))) == name else None
    except SpecError:
        return None


def keep(student: Student) -> None:
    """Keep a copy under its name, so that a resumed run or an audit finds it again."""
    name = named_by(tensors_sha256(student))
    directory = _place(name)

    def copy(folder: Path) -> None:
        for file in (WEIGHTS, "config.json", TRAINING_FILE):
            shutil.copyfile(student.directory / file, folder / file)

    try:
        if student.directory != directory and kept(name) is None:
            shutil.rmtree(directory, ignore_errors=True)
            build_once(directory, copy)
    except WorkloadAssetError:  # no room for it: the folder is asked for again
        pass


def _place(name: str) -> Path:
    return cache_root() / FOLDER / name.removeprefix("sha256:")


def student_of(step: TransformSpec, shipped: Student | None) -> Student:
    """The student that a step asks for."""
    if step.folder is not None:
        return opened(step.folder)
    request = read_distill(step.parameters)
    if request.student.startswith("sha256:"):
        raise SpecError(
            f"[distill] expected the folder of the student that a record calls {request.student}, "
            f"which is not kept in {cache_root() / FOLDER}; give it: distill:student=FOLDER "
            "(bench audit: --student FOLDER)"
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
