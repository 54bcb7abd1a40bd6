"""The open track's model: what its steps make of the reference, a checkpoint kept by its recipe.

    CACHE/open/RECIPE/  config.json  model.safetensors  tokenizer.json ..  steps.json

It is a directory like the reference's, so quantizers and engines take it as they take any other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from edgebench.codec import canonical_json, sha256_bytes
from edgebench.open_model import Fp16, shape_of
from edgebench.record import OpenShape, StrictModel, Training, TransformStep
from edgebench.transform import TransformSpec
from edgebench.transform.calibration import DEFAULT_SAMPLES, CalibrationSet
from edgebench.transform.distill import SHIPPED, STUDENT_SHAPE
from edgebench.transform.finetuning import read_finetune
from edgebench.transform.kept import code_sha256, made_once
from edgebench.transform.pruning import PruneRequest, read_prune
from edgebench.transform.quantized import array_sha256, lines_sha256
from edgebench.transform.students import attend, keep, student_of, tensors_sha256
from edgebench_workloads.cache import cache_root
from edgebench_workloads.students import Student

if TYPE_CHECKING:
    from edgebench.transform.finetune import Examples
    from edgebench_kernels.engine import LlamaWeights

CONFIG, WEIGHTS, STEPS = "config.json", "model.safetensors", "steps.json"
FOLDER = "open"

Progress = Callable[[int, int], None]


class Made(StrictModel):
    """`steps.json`: how the model came about."""

    steps: list[TransformStep]
    training: list[Training]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a changed model is made from."""

    directory: Path
    """The reference, every file verified."""
    sha256: str
    calibration: CalibrationSet
    examples: Examples
    """The workload's training set."""
    student: Student | None = None
    """The one that the workload ships."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedModel:
    """A checkpoint, and the ledger's steps that made it."""

    directory: Path
    made: Made

    @property
    def sha256(self) -> str:
        """The model by content: its last step's."""
        return self.made.steps[-1].after_sha256

    def shape(self) -> OpenShape:
        """Its shape; SpecError where the open ledger has no words for it."""
        from edgebench_kernels.engine import read_config

        return shape_of(read_config(self.directory / CONFIG))

    def arrays(self) -> dict[str, Fp16]:
        """Every tensor, fp16."""
        with safe_open(self.directory / WEIGHTS, framework="numpy") as file:
            return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def changed_once(
    steps: Sequence[TransformSpec], source: Source, progress: Progress | None = None
) -> ChangedModel:
    """The model that these steps make, taken from the cache where it is there whole.

    Raises SpecError, RunFailed as the steps do, AssetError where the cache has no room.
    """
    directory = cache_root() / FOLDER / _recipe_sha256(steps, source)
    training = directory.with_name(f"{directory.name}.training")
    return made_once(
        directory,
        training,
        _read,
        lambda folder: _make(folder, training, steps, source, progress),
        "[open] expected the model just made",
    )


def _recipe_sha256(steps: Sequence[TransformSpec], source: Source) -> str:
    recipe = {
        "reference": source.sha256,
        "steps": [str(step) for step in steps],
        "students": [
            tensors_sha256(student_of(step, source.student))
            for step in steps
            if step.name == "distill"
        ],
        "calibration": source.calibration.sha256,
        "code": code_sha256(),
        "torch": version("torch"),
    }
    return sha256_bytes(canonical_json(recipe))


def _read(directory: Path) -> ChangedModel | None:
    """Read a kept model; None where it is not there, or not what its last step says."""
    try:
        made = Made.model_validate_json((directory / STEPS).read_bytes())
        found = ChangedModel(directory=directory, made=made)
        is_whole = bool(made.steps) and found.sha256 == arrays_sha256(found.arrays())
    except (OSError, ValueError, TypeError):
        return None
    return found if is_whole else None


def arrays_sha256(arrays: dict[str, Fp16]) -> str:
    """Hash an fp16 model by its tensors, as the ledger does."""
    return lines_sha256({name: array_sha256(array) for name, array in arrays.items()})


def _make(
    folder: Path,
    training: Path,
    steps: Sequence[TransformSpec],
    source: Source,
    progress: Progress | None,
) -> None:
    from edgebench_kernels.engine import load_reference

    weights = load_reference(source.directory)
    shape_of(weights.config)
    run = _Run(source, training, weights, progress)
    for index, step in enumerate(steps):
        run.take(index, step)
    for path in source.directory.iterdir():
        if path.is_file() and path.name not in (CONFIG, WEIGHTS):
            shutil.copyfile(path, folder / path.name)
    (folder / CONFIG).write_text(json.dumps(run.raw(), indent=2) + "\n")
    save_file(run.arrays(), folder / WEIGHTS, metadata={"format": "pt"})
    made = Made(steps=run.steps, training=run.training)
    (folder / STEPS).write_text(made.model_dump_json())


class _Run:
    """The model between two steps."""

    def __init__(
        self, source: Source, training: Path, weights: LlamaWeights, progress: Progress | None
    ) -> None:
        self.steps: list[TransformStep] = []
        self.training: list[Training] = []
        self._source, self._folder, self._progress = source, training, progress
        self._reference = self._weights = weights
        self._config = _raw(source.directory)
        self._sha256 = source.sha256

    def take(self, index: int, step: TransformSpec) -> None:
        """Do one step, and write it down."""
        if step.name == "prune":
            request = read_prune(step.parameters)
            samples = request.samples or min(
                DEFAULT_SAMPLES, len(self._source.calibration.sequences)
            )
            self._prune(request, samples)
            told, used = written(request, samples), request.needs_data
        elif step.name == "distill":
            told, used = self._distill(step), False
        else:
            self._finetune(index, step)
            tuning = read_finetune(step.parameters)
            told = {"steps": tuning.steps, "batch": tuning.batch, "rate": tuning.rate}
            told, used = {**told, "seed": tuning.seed}, False
        after = arrays_sha256(self.arrays())
        self.steps.append(
            TransformStep(
                transform=step.name,
                parameters=told,
                before_sha256=self._sha256,
                after_sha256=after,
                calibration_sha256=self._source.calibration.sha256 if used else None,
            )
        )
        self._sha256 = after

    def _prune(self, request: PruneRequest, samples: int) -> None:
        from edgebench.transform.prune import prune

        sequences = self._source.calibration.first(samples)
        self._weights = prune(self._weights, request, sequences, self._progress)

    def _finetune(self, index: int, step: TransformSpec) -> None:
        from edgebench.transform.finetune import Lesson, finetune

        lesson = Lesson(
            student=self._weights,
            student_config=self.raw(),
            teacher=self._reference,
            teacher_config=_raw(self._source.directory),
            teacher_sha256=self._source.sha256,
            examples=self._source.examples,
        )
        checkpoint = self._folder / f"step-{index}.pt"
        request = read_finetune(step.parameters)
        self._weights, cost = finetune(lesson, request, checkpoint, self._progress)
        self.training.append(cost)

    def _distill(self, step: TransformSpec) -> dict[str, int | float | str | bool | None]:
        """Take the student for the model; returns its name and its shape."""
        student = student_of(step, self._source.student)
        lecture = attend(student, self._reference.config, self._source.sha256)
        if step.folder is not None:
            keep(student)
        self._weights, self._config = lecture.weights, _raw(lecture.directory)
        self.training.append(lecture.training)
        shape = shape_of(lecture.weights.config).model_dump(include=set(STUDENT_SHAPE))
        return {"student": str(step.parameters.get("student", SHIPPED)), **shape}

    def raw(self) -> dict[str, Any]:
        """The reference's or the student's config.json with the shape that the model has now."""
        config = self._weights.config
        return self._config | {
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
        }

    def arrays(self) -> dict[str, Fp16]:
        """The model's tensors as they are filed."""
        tensors = self._weights.tensors
        return {name: np.ascontiguousarray(t.numpy()) for name, t in tensors.items()}


def _raw(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / CONFIG).read_text())
    return found


def written(request: PruneRequest, samples: int) -> dict[str, int | float | str | bool | None]:
    """A step's parameters in the ledger: those given, and the defaults of those that were not."""
    amount: int | float | str = str(request.pattern) if request.pattern else request.share
    if request.method == "layers":
        amount = request.count
    written: dict[str, int | float | str | bool | None] = {request.method: amount}
    if request.needs_data:
        written["samples"] = samples
    if request.method in ("heads", "units"):
        written["refit"] = request.refit
    if request.method == "sparsegpt":
        written["damping"] = request.damping
    if request.method == "magnitude" and request.pattern and not request.pattern.is_grouped:
        written["scope"] = request.scope
    return written
