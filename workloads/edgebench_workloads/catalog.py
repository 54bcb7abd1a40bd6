"""The workloads by name, each with its task, its data and its reference model's directory."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache as memoized
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgebench_workloads.cache import build_once, cache_root
from edgebench_workloads.errors import UnknownWorkloadError, WorkloadAssetError
from edgebench_workloads.students import Student, shipped_student
from edgebench_workloads.task import Kind, Task, Variant, load_task, task_sha256
from edgebench_workloads.weights import Progress, verify
from edgebench_workloads.widen import WidenPlan, config_bytes, widen_checkpoint, widen_config

if TYPE_CHECKING:
    from edgebench_workloads.assistant.dataset import Pair
    from edgebench_workloads.wake.scenes import Scene

Sample = TypeVar("Sample")

_ROOT = Path(__file__).parent
_REINSTALL = "reinstall edgebench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A task together with one reference model: the trained one, or a widened variant of it."""

    name: str
    base: str
    variant_name: str | None = None
    root: Path = _ROOT

    @property
    def folder(self) -> Path:
        """Where `task.toml`, the data and the trained model lie."""
        return self.root / self.base

    @property
    def task(self) -> Task:
        """The parsed `task.toml`; raises TaskFileError."""
        return _task(self.folder / "task.toml")

    @property
    def kind(self) -> Kind:
        """What its samples are: text has pairs of strings, images have scenes."""
        return self.task.kind

    @property
    def task_sha256(self) -> str:
        """Hex SHA-256 of `task.toml`."""
        return task_sha256(self.folder / "task.toml")

    @property
    def variant(self) -> Variant | None:
        """The widening that makes the reference; None for the trained model itself."""
        return None if self.variant_name is None else self.task.variants[self.variant_name]

    @property
    def plan(self) -> WidenPlan | None:
        """The variant's parameters as `widen` takes them."""
        variant = self.variant
        return None if variant is None else WidenPlan(**variant.model_dump(include=_PLAN_FIELDS))

    @property
    def disclosure(self) -> str | None:
        """What is artificial about the model, to be shown wherever the workload is named."""
        variant = self.variant
        if variant is None:
            return None
        return (
            f"{variant.disclosure} Replicas {variant.replicas}, noise {variant.noise:g}, "
            f"{variant.outlier_channels} outlier channels x {variant.outlier_factor}."
        )

    @property
    def closed_only(self) -> bool:
        """Whether the open track refuses it: a widened model's redundancy makes pruning free."""
        return self.variant_name is not None

    @property
    def reference_sha256(self) -> str:
        """The pinned SHA-256 of the reference's model.safetensors."""
        variant = self.variant
        return self.task.model.sha256 if variant is None else variant.sha256

    @property
    def reference_size_bytes(self) -> int:
        """The pinned size of the reference's model.safetensors."""
        variant = self.variant
        return self.task.model.size_bytes if variant is None else variant.size_bytes

    def scored(self) -> list[Pair]:
        """The scored set, its hash verified."""
        data = self.task.data
        return self._verified("scored", self._dataset.scored_pairs(), data.scored_sha256)

    def calibration(self) -> list[Pair]:
        """The calibration set, its hash verified; shares no call with the scored set."""
        data = self.task.data
        return self._verified(
            "calibration", self._dataset.calibration_pairs(), data.calibration_sha256
        )

    def scored_scenes(self) -> list[Scene]:
        """The scored set of a workload of images, its hash verified."""
        data = self.task.data
        return self._verified("scored", self._dataset.scored_pairs(), data.scored_sha256)

    def calibration_scenes(self) -> list[Scene]:
        """The calibration set of a workload of images, its hash verified."""
        data = self.task.data
        return self._verified(
            "calibration", self._dataset.calibration_pairs(), data.calibration_sha256
        )

    def unseen(self, size: int, seed: int) -> list[Pair] | None:
        """Fresh pairs of the same task, in no shipped set; another seed gives others.

        None where the task has no generator.
        """
        generate = getattr(self._dataset, "unseen_pairs", None)
        pairs: list[Pair] | None = None if generate is None else generate(size, seed)
        return pairs

    def unseen_scenes(self, size: int, seed: int) -> list[Scene] | None:
        """Fresh scenes of a workload of images; see unseen."""
        generate = getattr(self._dataset, "unseen_scenes", None)
        found: list[Scene] | None = None if generate is None else generate(size, seed)
        return found

    def is_correct(self, output: str, expected: str) -> bool:
        """The metric on one sample: does the output text answer as expected?"""
        quality = import_module(f"edgebench_workloads.{self.base}.quality")
        return bool(quality.is_exact_match(output, expected))

    def reference_directory(
        self, cache: Path | None = None, progress: Progress | None = None
    ) -> Path:
        """The reference as a Hugging Face directory, every file verified.

        A widened model is generated into the cache on first use (progress in bytes). Raises
        WorkloadAssetError naming file, expected and found hash, and what to do.
        """
        small = self._trained_directory()
        plan = self.plan
        if plan is None:
            return small
        directory = self.cache_directory(plan, cache)
        build_once(directory, lambda partial: self._generate(small, partial, plan, progress))
        self._verify_generated(small, directory, plan)
        return directory

    def student(self) -> Student | None:
        """The distilled student that is shipped beside the trained model; None: there is none.

        Raises WorkloadAssetError where a file of it is missing or altered.
        """
        return None if self.variant_name is not None else shipped_student(self.folder)

    def cache_directory(self, plan: WidenPlan, cache: Path | None = None) -> Path:
        """Where the model widened by that plan is kept; another source or plan has another name."""
        recipe = {"source": self.task.model.sha256, "plan": asdict(plan), "format": 1}
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
        return cache_root(cache) / "models" / f"{self.name}-{key}"

    @property
    def _dataset(self) -> Any:
        return import_module(f"edgebench_workloads.{self.base}.dataset")

    def _verified(self, what: str, pairs: list[Sample], expected: str) -> list[Sample]:
        found = self._dataset.pairs_sha256(pairs)
        if found != expected:
            raise WorkloadAssetError(
                f"[{self.base}/{what}] expected sha256 {expected}, got {found}; {_REINSTALL}"
            )
        return pairs

    def _trained_directory(self) -> Path:
        directory = self.folder / "model"
        hashes = self.task.model
        files = (
            ("config.json", hashes.config_sha256, None),
            ("tokenizer.json", hashes.tokenizer_sha256, None),
            ("model.safetensors", hashes.sha256, hashes.size_bytes),
            ("supernet.safetensors", hashes.supernet_sha256, hashes.supernet_size_bytes),
        )
        for file, sha256, size in files:
            if sha256 is not None:
                verify(directory / file, sha256=sha256, size_bytes=size, what_to_do=_REINSTALL)
        return directory

    def _generate(
        self, small: Path, partial: Path, plan: WidenPlan, progress: Progress | None
    ) -> None:
        written = widen_checkpoint(small, partial, plan, progress)
        if written.sha256 != self.reference_sha256:
            raise WorkloadAssetError(
                f"[{self.name}] expected the generated model to have sha256 "
                f"{self.reference_sha256}, got {written.sha256}; report this with 'bench doctor'"
            )

    def _verify_generated(self, small: Path, directory: Path, plan: WidenPlan) -> None:
        config = json.loads((small / "config.json").read_text(encoding="utf-8"))
        expected = hashlib.sha256(config_bytes(widen_config(config, plan.replicas))).hexdigest()
        tokenizer = self.task.model.tokenizer_sha256
        assert tokenizer is not None, "only models of text are widened"
        files = (
            ("config.json", expected, None),
            ("tokenizer.json", tokenizer, None),
            ("model.safetensors", self.reference_sha256, self.reference_size_bytes),
        )
        hint = f"remove {directory} and it will be generated again"
        for file, sha256, size in files:
            verify(directory / file, sha256=sha256, size_bytes=size, what_to_do=hint)


WORKLOADS: Mapping[str, Workload] = {
    "assistant": Workload(name="assistant", base="assistant"),
    "assistant@300m": Workload(name="assistant@300m", base="assistant", variant_name="300m"),
    "assistant@1b": Workload(name="assistant@1b", base="assistant", variant_name="1b"),
    "wake": Workload(name="wake", base="wake"),
}

_PLAN_FIELDS = {"replicas", "noise", "outlier_factor", "outlier_channels", "seed"}


def find(name: str) -> Workload:
    """The workload of that name; raises UnknownWorkloadError with the nearest name."""
    if name in WORKLOADS:
        return WORKLOADS[name]
    nearest = difflib.get_close_matches(name, WORKLOADS, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    known = ", ".join(WORKLOADS)
    raise UnknownWorkloadError(f"[workload] expected one of {known}, got {name!r}{hint}")


@memoized
def _task(path: Path) -> Task:
    return load_task(path)


def forget_tasks() -> None:
    """Read `task.toml` files again from now on; `pin` has changed one."""
    _task.cache_clear()
