"""The open track's network: what its steps make of the reference of images, kept by its recipe.

    CACHE/open-images/RECIPE/  model/config.json  model/model.safetensors  steps.json

An interrupted fine-tune goes on from its last checkpoint, which lies beside in RECIPE.training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.codec import canonical_json, sha256_bytes
from edgebench.errors import SpecError
from edgebench.images.graph import read_genome
from edgebench.open_model import Fp16
from edgebench.record import Training, TransformStep
from edgebench.transform import TransformSpec
from edgebench.transform.calibration import DEFAULT_SAMPLES
from edgebench.transform.changed import Made, arrays_sha256, written
from edgebench.transform.finetuning import read_finetune
from edgebench.transform.kept import code_sha256, made_once
from edgebench.transform.nas_found import read_arrays
from edgebench.transform.pruning import read_prune
from edgebench.transform.sharing import NAME as SHARE
from edgebench.transform.sharing import read_share, shared
from edgebench_workloads.cache import cache_root
from edgebench_workloads.wake.genome import Genome
from edgebench_workloads.wake.scenes import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from edgebench.images.network import Network

FOLDER, MODEL, STEPS = "open-images", "model", "steps.json"

Progress = Callable[[int, int], None]
Values = Mapping[str, int | float | str | bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """What a changed network is made from."""

    directory: Path
    """The reference, every file verified."""
    sha256: str
    calibration: Sequence[Scene] = field(repr=False)
    calibration_sha256: str
    training: Callable[[int, int], Sequence[Scene]]
    """(size, start) -> scenes of the training stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedNetwork:
    """A network on disk, and the ledger's steps that made it."""

    directory: Path
    made: Made

    @property
    def steps(self) -> tuple[TransformStep, ...]:
        """The ledger's."""
        return tuple(self.made.steps)

    @property
    def sha256(self) -> str:
        """The network by content: its last step's."""
        return self.made.steps[-1].after_sha256

    @property
    def genome(self) -> Genome:
        """Its shape."""
        return read_genome(self.directory)

    @property
    def is_shared(self) -> bool:
        """Whether a coded file is filed beside it."""
        return any(step.transform == SHARE for step in self.made.steps)

    def arrays(self) -> dict[str, Fp16]:
        """Every tensor, fp16."""
        return read_arrays(self.directory)


def changed_once(
    steps: Sequence[TransformSpec], source: ImageSource, progress: Progress | None = None
) -> ChangedNetwork:
    """The network that these steps make, taken from the cache where it is there whole.

    Raises SpecError, RunFailed as the steps do, AssetError where the cache has no room.
    """
    directory = cache_root() / FOLDER / _recipe_sha256(steps, source)
    training = directory.with_name(f"{directory.name}.training")
    return made_once(
        directory,
        training,
        _read,
        lambda folder: _make(folder, training, steps, source, progress),
        "[open] expected the network just made",
    )


def _recipe_sha256(steps: Sequence[TransformSpec], source: ImageSource) -> str:
    recipe = {
        "reference": source.sha256,
        "steps": [str(step) for step in steps],
        "calibration": source.calibration_sha256,
        "code": [code_sha256(), _own_code_sha256()],
        "torch": version("torch"),
    }
    return sha256_bytes(canonical_json(recipe))


def _own_code_sha256() -> str:
    digest = hashlib.sha256()
    for name in ("changed", "network", "pruned", "request", "tuned"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def _read(directory: Path) -> ChangedNetwork | None:
    """Read a kept network; None where it is not there, or not what its last step says."""
    try:
        made = Made.model_validate_json((directory / STEPS).read_bytes())
        found = ChangedNetwork(directory=directory / MODEL, made=made)
        is_whole = bool(made.steps) and found.sha256 == arrays_sha256(found.arrays())
    except (OSError, ValueError):
        return None
    return found if is_whole else None


def _make(
    folder: Path,
    training: Path,
    steps: Sequence[TransformSpec],
    source: ImageSource,
    progress: Progress | None,
) -> None:
    from edgebench.images.network import read_network
    from edgebench_workloads.wake import subnet

    run = _Run(source, training, read_network(source.directory), progress)
    for index, step in enumerate(steps):
        run.take(index, step)
    subnet.write(folder / MODEL, run.network.genome, run.network.tensors)
    made = Made(steps=run.steps, training=run.training)
    (folder / STEPS).write_text(made.model_dump_json())


class _Run:
    """The network between two steps."""

    def __init__(
        self, source: ImageSource, folder: Path, reference: Network, progress: Progress | None
    ) -> None:
        self.steps: list[TransformStep] = []
        self.training: list[Training] = []
        self.network = reference
        self._source, self._folder, self._progress = source, folder, progress
        self._reference = reference
        self._sha256 = source.sha256

    def take(self, index: int, step: TransformSpec) -> None:
        """Do one step, and write it down."""
        does = {"prune": self._prune, "share": self._share, "finetune": self._finetune}
        parameters, uses_calibration = does[step.name](index, step)
        after = arrays_sha256(self.network.arrays())
        self.steps.append(
            TransformStep(
                transform=step.name,
                parameters=dict(parameters),
                before_sha256=self._sha256,
                after_sha256=after,
                calibration_sha256=self._source.calibration_sha256 if uses_calibration else None,
            )
        )
        self._sha256 = after

    def _prune(self, _: int, step: TransformSpec) -> tuple[Values, bool]:
        from edgebench.images.pruned import prune

        request = read_prune(step.parameters)
        scenes = self._source.calibration
        samples = request.samples or min(DEFAULT_SAMPLES, len(scenes))
        if samples > len(scenes):
            raise SpecError(f"[prune] expected samples to be 1..{len(scenes)}, got {samples}")
        images = self._images(scenes[:samples])
        self.network = prune(self.network, request, images, self._progress)
        return written(request, samples), request.needs_data

    def _share(self, _: int, step: TransformSpec) -> tuple[Values, bool]:
        import torch

        from edgebench.images.network import rounded

        request = read_share(step.parameters)
        made = {
            name: torch.from_numpy(shared(array, request.bits) if array.ndim > 1 else array)
            for name, array in self.network.arrays().items()
        }
        self.network = rounded(self.network.genome, made, SHARE)
        return {"bits": request.bits}, False

    def _finetune(self, index: int, step: TransformSpec) -> tuple[Values, bool]:
        from edgebench.images.tuned import Lesson, finetune

        request = read_finetune(step.parameters)
        lesson = Lesson(
            student=self.network,
            teacher=self._reference,
            teacher_sha256=self._source.sha256,
            images=lambda size, start: self._images(self._source.training(size, start)),
            is_shared=any(one.transform == SHARE for one in self.steps),
        )
        checkpoint = self._folder / f"step-{index}.pt"
        self.network, cost = finetune(lesson, request, checkpoint, self._progress)
        self.training.append(cost)
        parameters = {"steps": request.steps, "batch": request.batch, "rate": request.rate}
        return {**parameters, "seed": request.seed}, False

    def _images(self, scenes: Sequence[Scene]) -> Tensor:
        from edgebench.images.engine import inputs_of

        return inputs_of(scenes, self.network.genome.resolution)
