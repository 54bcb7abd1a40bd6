"""The engines of a workload of images on CPUs: the fp16 reference and INT4, each at its fastest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edgebench.images.choices import int4_choices, reference_choices
from edgebench.images.engine import ImageEngine, inputs_of, race
from edgebench.images.prepared import PreparedImages
from edgebench.kernel_engine import OFFLINE_BATCH, KernelEngine, WeightChange, changed_tensors
from edgebench.record import Kernel, Scenario
from edgebench.roofline import Model
from edgebench_workloads.wake.costs import is_product, total_macs
from edgebench_workloads.wake.genome import Genome, layers
from edgebench_workloads.wake.subnet import read

OFFLINE_BATCHES = (16, OFFLINE_BATCH)
"""Images at once: more share a call, fewer leave what lies between two layers in the caches."""
PROBE_ROUNDS = 8  # after one that warms up; the fastest counts


class CpuImageEngines:
    """See kernel_engine.WorkloadEngines: each choice is raced at a scenario's own batches."""

    def __init__(self, prepared: PreparedImages, kernels: Sequence[Kernel]) -> None:
        self._prepared = prepared
        self._reference = read(prepared.directory)
        self._candidate = read(prepared.candidate_directory)
        self.model = _work(self._reference[0])
        self.candidate_model = _work(self._candidate[0])
        self._choices = {kernel: self._choices_of(kernel) for kernel in kernels}

    def for_scenario(
        self, kernel: Kernel, scenario: Scenario, named: str | None = None
    ) -> KernelEngine:
        """Return a kernel as it runs in a scenario."""
        sizes = (1,) if scenario == "single-stream" else OFFLINE_BATCHES
        raced = [(size, *self._raced(kernel, size, named)) for size in sizes]
        batch_size, engine, _ = min(raced, key=lambda one: one[2] / one[0])
        return KernelEngine(
            kernel=kernel,
            engine=engine,
            executed_path=engine.description,
            batch_size=batch_size,
            arithmetic=engine.arithmetic,
            packed={n: one.packed_bytes() for n, one in engine.linears.items()} or None,
            cost=self._prepared.cost(kernel),
        )

    def _raced(self, kernel: Kernel, batch_size: int, named: str | None) -> tuple[ImageEngine, int]:
        """The fastest choice for so many images at once, or the one named, and what it took."""
        choices = self._choices[kernel]
        choices = [one for one in choices if one.description == named] or choices
        images = inputs_of(self._prepared.scenes[:batch_size], choices[0].genome.resolution)
        return race(choices, images, time.monotonic_ns, PROBE_ROUNDS)

    def changed(self, engine: KernelEngine, change: WeightChange) -> KernelEngine:
        """See WorkloadEngines: the matrix products' weights may change."""
        choices = self._choices_of(engine.kernel, change)
        built = next(one for one in choices if one.description == engine.executed_path)
        return replace(engine, engine=built, packed=None)

    def _choices_of(
        self, kernel: Kernel, change: WeightChange | None = None
    ) -> Sequence[ImageEngine]:
        genome, weights = self._reference if kernel == "fp16" else self._candidate
        if kernel == "int4":
            quantized = self._prepared.quantized
            if change is not None:
                quantized = replace(quantized, tensors=changed_tensors(quantized.tensors, change))
            return int4_choices(genome, weights, quantized)
        return reference_choices(genome, _changed(genome, weights, change) if change else weights)


def _work(genome: Genome) -> Model:
    return Model(body_weights=total_macs(genome), head_weights=0)


def _changed(
    genome: Genome, weights: Mapping[str, Tensor], change: WeightChange
) -> dict[str, Tensor]:
    changed = dict(weights)
    for layer in filter(is_product, layers(genome)):
        weight = weights[f"{layer.name}.weight"]
        given = weight.flatten(1).half().numpy()
        came = torch.from_numpy(change(layer.name, given)).float()
        changed[f"{layer.name}.weight"] = came.view(weight.shape)
    return changed
