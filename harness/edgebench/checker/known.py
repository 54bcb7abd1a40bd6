"""What this installation knows of a workload: read from the catalog, every hash verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from edgebench.answers import AnswerKey
from edgebench.checker.known_images import known_images
from edgebench.checker.retrace import KnownModel
from edgebench.checker.subject import KnownStudent, KnownWorkload, Shape
from edgebench.errors import SpecError, harness_error
from edgebench.identity import identified
from edgebench.prepare import WEIGHTS_FILE, calibration_set, encode_pairs, graph_sha256
from edgebench.prepared_text import CONFIG_FILE
from edgebench.transform.quantized import SUFFIX, ReferenceLinears, open_reference
from edgebench.transform.students import tensors_sha256, training_of
from edgebench_kernels.engine.config import read_config
from edgebench_workloads.assistant.tokenizer import EOS as EOS_ID
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.errors import WorkloadError
from edgebench_workloads.students import Student

Lookup = Callable[[str], KnownWorkload]


def known_workload(name: str) -> KnownWorkload:
    """Return what the catalog says of a workload; generates a widened model on first use.

    Raises SpecError for an unknown name, AssetError where our own files are missing or altered.
    """
    if name not in WORKLOADS:
        raise SpecError(f"[check] expected a workload of the catalog, got {name!r}")
    workload = WORKLOADS[name]
    try:
        directory = workload.reference_directory()
        if workload.kind == "images":
            return known_images(workload, directory)
        scored, calibration = workload.scored(), workload.calibration()
        student = workload.student()
    except WorkloadError as err:
        raise harness_error(err) from err
    tokenizer, prompts, calls = encode_pairs(directory, scored)
    reference = open_reference(directory / WEIGHTS_FILE, workload.reference_sha256)
    inputs = {pair.command for pair in scored} | {pair.call for pair in scored}
    sequences = calibration_set(workload, directory).sequences
    return KnownWorkload(
        **identified(workload),
        closed_only=workload.closed_only,
        graph_sha256=graph_sha256(directory),
        prompt_tokens=[len(prompt) for prompt in prompts],
        call_tokens=[len(call) for call in calls],
        calibration_overlap=sum(
            pair.command in inputs or pair.call in inputs for pair in calibration
        ),
        answers=AnswerKey(
            decoder=tokenizer,
            eos_id=EOS_ID,
            expected=[pair.call for pair in scored],
            is_correct=workload.is_correct,
        ),
        eos_id=EOS_ID,
        vocabulary=tokenizer.get_vocab_size(),
        max_new_tokens=workload.task.max_new_tokens,
        reference=reference,
        shapes=_shapes(reference),
        model=known_model(directory, sequences),
        student=None if student is None else known_student(student, sequences),
    )


def known_student(student: Student, sequences: Sequence[Sequence[int]]) -> KnownStudent:
    """What is known of a student whose hashes are verified."""
    directory = student.directory
    reference = open_reference(directory / WEIGHTS_FILE, tensors_sha256(student))
    return KnownStudent(
        tensors_sha256=reference.sha256,
        training=training_of(student),
        reference=reference,
        shapes=_shapes(reference),
        model=known_model(directory, sequences),
    )


def known_model(directory: Path, sequences: Sequence[Sequence[int]]) -> KnownModel:
    """The model in a directory, and the token ids of its calibration set; ValueError for others."""
    path = directory / WEIGHTS_FILE

    def tensor(name: str) -> npt.NDArray[np.float16]:
        with safe_open(path, framework="numpy") as file:
            return np.asarray(file.get_tensor(name))

    with safe_open(path, framework="numpy") as file:
        names = frozenset(file.keys())
    config = read_config(directory / CONFIG_FILE)
    return KnownModel(config=config, names=names, tensor=tensor, sequences=sequences)


def _shapes(reference: ReferenceLinears) -> dict[str, Shape]:
    shapes = {}
    with safe_open(reference.path, framework="numpy") as file:
        for name in reference.names:
            n, k = file.get_slice(name + SUFFIX).get_shape()
            shapes[name] = (n, k)
    return shapes
