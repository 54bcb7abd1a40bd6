"""The subject of a check: a bundle, what we know of its workload, and what its rows derive to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from edgebench.answers import Judge
from edgebench.bundle import Bundle
from edgebench.checker.retrace import KnownModel
from edgebench.codec import describe_invalid
from edgebench.conditions_verdict import Judgement, judge
from edgebench.derive import REFERENCE, CaseFacts, KernelFacts, derive_results
from edgebench.errors import MeasurementInvalid, SpecError
from edgebench.open_model import linear_shapes, shape_of
from edgebench.open_subnet import genome_of
from edgebench.profiles import EXTERNAL, PROFILES, REFERENCE_ACCURACY, Counts
from edgebench.progress import Progress, SilentProgress
from edgebench.record import Kernel, KernelResult, Kind, OpenShape, SampleRow, Training
from edgebench.roofline import Model, model_of
from edgebench_workloads.wake.costs import products, total_macs
from edgebench_workloads.wake.genome import Genome

Shape = tuple[int, int]


class Reference(Protocol):
    """The reference's linear layers, read one at a time."""

    @property
    def sha256(self) -> str:
        """The hash of the file that they come from."""

    @property
    def names(self) -> tuple[str, ...]:
        """Module paths, sorted."""

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Of the layers that are no matrix products, sorted; none in a model of text."""

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """Return one weight, fp16 [N, K]."""


@dataclass(frozen=True, kw_only=True)
class KnownStudent:
    """The distilled student that this installation ships for a workload."""

    tensors_sha256: str
    training: Training
    """What its training.json says."""
    reference: Reference = field(repr=False)
    shapes: Mapping[str, Shape] = field(repr=False)
    model: KnownModel = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class KnownWorkload:
    """What this installation knows of a workload, from files whose hashes it verified."""

    name: str
    closed_only: bool
    task_sha256: str
    reference_sha256: str
    scored_sha256: str
    calibration_sha256: str
    graph_sha256: str
    prompt_tokens: Sequence[int] = field(repr=False)
    call_tokens: Sequence[int] = field(repr=False)
    """Per scored sample; the call's count includes end-of-sequence."""
    calibration_overlap: int
    """How many calibration commands or calls occur in the scored set."""
    answers: Judge = field(repr=False)
    eos_id: int | None
    """None where an answer is one class and nothing ends it."""
    vocabulary: int
    """How many token ids there are, or classes."""
    max_new_tokens: int
    reference: Reference = field(repr=False)
    shapes: Mapping[str, Shape] = field(repr=False)
    """(N, K) of every linear layer of the reference."""
    kind: Kind = "text"
    genome: Genome | None = field(default=None, repr=False)
    """Of a model of images: its graph, from which its cost follows."""
    supernet: Path | None = field(default=None, repr=False)
    """The file that subnets are cut from."""
    supernet_sha256: str | None = None
    model: KnownModel | None = field(default=None, repr=False)
    """What runs the reference on the calibration set; None where nothing can."""
    student: KnownStudent | None = field(default=None, repr=False)

    @property
    def scored_count(self) -> int:
        """How many samples the scored set holds."""
        return len(self.prompt_tokens)

    @property
    def work(self) -> Model:
        """What the reference multiplies."""
        if self.genome is None:
            return model_of(self.shapes)
        return Model(body_weights=total_macs(self.genome), head_weights=0)

    @property
    def pinned_accuracy(self) -> float | None:
        """What the reference must reach, by the rulebook; a widened model like its base."""
        return REFERENCE_ACCURACY.get(self.name.partition("@")[0])


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What every check looks at."""

    bundle: Bundle
    workload: KnownWorkload
    tensors_folder: Path | None = None
    """Where --tensors points: holds the quantized tensors that the bundle does not."""
    progress: Progress = field(default_factory=SilentProgress)

    @property
    def counts(self) -> Counts:
        """What the profile demands of this workload in this scenario."""
        record = self.bundle.record
        return PROFILES[record.profile].counts(record.workload.name, record.scenario)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels that have a result."""
        return tuple(result.kernel for result in self.bundle.record.results)

    @property
    def is_external(self) -> bool:
        """Whether an external engine was measured: nothing is known of its weights."""
        return EXTERNAL in self.kernels

    @property
    def pair(self) -> tuple[Kernel, Kernel]:
        """The reference, and what is compared with it."""
        others = (kernel for kernel in self.kernels if kernel != REFERENCE)
        return REFERENCE, next(others, "int4")

    @property
    def reference_shape(self) -> OpenShape | None:
        """The reference in the open ledger's words; None where it has no such words."""
        model = self.workload.model
        try:
            return None if model is None else shape_of(model.config)
        except SpecError:
            return None

    @property
    def open_genome(self) -> Genome | None:
        """Of the open track's model of images; None where there is none, or no genome."""
        ledger = self.bundle.ledger
        model = ledger.open_subnet or ledger.open_network
        try:
            return None if model is None else genome_of(model.genome)
        except ValueError:  # O-07 or O-08 says so
            return None

    @property
    def candidate_shapes(self) -> Mapping[str, Shape]:
        """(N, K) of the linear layers that run beside the reference's."""
        model, genome = self.bundle.ledger.open_model, self.open_genome
        if genome is not None:
            return {layer.name: (layer.outputs, layer.inputs) for layer in products(genome)}
        return self.workload.shapes if model is None else linear_shapes(model.shape)

    @property
    def candidate_work(self) -> Model:
        """What runs beside the reference multiplies."""
        if self.open_genome is not None:
            return Model(body_weights=total_macs(self.open_genome), head_weights=0)
        if self.bundle.ledger.open_model is None:
            return self.workload.work
        return model_of(self.candidate_shapes)

    def rows(self, kernel: Kernel, mode: str) -> list[SampleRow]:
        """Return one kernel's rows of one mode, as filed."""
        return [row for row in self.bundle.samples if (row.kernel, row.mode) == (kernel, mode)]

    @cached_property
    def derived(self) -> list[KernelResult]:
        """The results that the rows give, in the record's order; the gates must have held.

        Raises MeasurementInvalid where the rows' numbers are absurd.
        """
        bundle = self.bundle
        record = bundle.record
        case = CaseFacts(
            track=record.track,
            workload=record.workload.name,
            scenario=record.scenario,
            profile=record.profile,
            scored_count=self.workload.scored_count,
            prompt_tokens=self.workload.prompt_tokens,
            model=self.workload.work,
            candidate_model=self.candidate_work,
            kind=self.workload.kind,
            last_level_cache_bytes=record.host.last_level_cache_bytes,
        )
        try:
            return derive_results(
                case,
                [
                    facts_of(result, judge(record.conditions, record.track))
                    for result in record.results
                ],
                samples=bundle.samples,
                nll=bundle.nll,
                ceilings=bundle.ceilings,
                is_right=self.workload.answers.is_right,
            )
        except (ValueError, ArithmeticError) as err:  # sums over what a double can hold
            said = describe_invalid(err) if isinstance(err, ValidationError) else err
            raise MeasurementInvalid(f"[derive] expected sane numbers: {said}") from err


def facts_of(result: KernelResult, judgement: Judgement) -> KernelFacts:
    """Take from a published result what rows cannot say, and from the record what it judges."""
    return KernelFacts(
        kernel=result.kernel,
        executed_path=result.executed_path,
        transform=result.transform,
        batch_size=result.batch_size,
        weight_bytes=result.weight_bytes,
        peak_memory_bytes=result.peak_memory_bytes,
        arithmetic=result.roofline.compute_ceiling,
        energy=result.energy,
        energy_beside=tuple(result.energy_beside),
        energy_metrics=result.energy_metrics,
        timed_weights=result.timed_weights,
        invalid_reasons=judgement.invalid_reasons,
        warnings=judgement.warnings,
        cost=result.cost,
    )
