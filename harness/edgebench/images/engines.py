"""The engines of a workload of images on CPUs: the fp16 reference and INT4, each at its fastest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edgebench.engines import (
    OFFLINE_BATCH,
    KernelEngine,
    WeightChange,
    changed_tensors,
    packed_bytes,
)
from edgebench.images.engine import (
    ImageEngine,
    fastest,
    inputs_of,
    int4_engine,
    is_product,
    reference_engine,
)
from edgebench.images.prepared import PreparedImages
from edgebench.record import Kernel, Scenario
from edgebench.roofline import Arithmetic, Model
from edgebench_kernels import native
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.linear import Int4Linear
from edgebench_workloads.wake.costs import total_macs
from edgebench_workloads.wake.genome import layers
from edgebench_workloads.wake.subnet import read

DTYPES: Mapping[torch.dtype, Arithmetic] = {torch.float32: "fp32", torch.bfloat16: "bf16"}
PATHS = ("w4a16", "w4a8")
PROBE_ROUNDS = 4  # after one that warms up; the fastest counts


class CpuImageEngines:
    """See engines.WorkloadEngines: each choice is raced at a scenario's own batch."""

    def __init__(self, prepared: PreparedImages, kernels: Sequence[Kernel]) -> None:
        self._prepared = prepared
        self._genome, self._weights = read(prepared.directory)
        self.model: Model = Model(body_weights=total_macs(self._genome), head_weights=0)
        self.candidate_model = self.model  # no step changes a model of images yet
        self._references = self._reference_engines(self._weights)
        self._int4: dict[str, ImageEngine] = {}
        if "int4" in kernels:
            self._int4 = self._int4_engines(prepared.quantized.tensors)

    def for_scenario(self, kernel: Kernel, scenario: Scenario) -> KernelEngine:
        """Return a kernel as it runs in a scenario."""
        batch_size = 1 if scenario == "single-stream" else OFFLINE_BATCH
        images = inputs_of(self._prepared.scenes[:batch_size], self._genome.resolution)
        choices = self._references if kernel == "fp16" else self._int4
        engine = self._fastest(choices, images)
        return KernelEngine(
            kernel=kernel,
            engine=engine,
            executed_path=engine.description,
            batch_size=batch_size,
            arithmetic=DTYPES[engine.dtype] if kernel == "fp16" else "int8",
            packed=packed_bytes(engine.linears) if engine.linears else None,
            cost=self._prepared.cost(kernel),
        )

    def changed(self, engine: KernelEngine, change: WeightChange) -> KernelEngine:
        """See WorkloadEngines: the matrix products' weights may change."""
        if engine.kernel == "fp16":
            choices = self._reference_engines(self._changed_reference(change))
        else:
            tensors = changed_tensors(self._prepared.quantized.tensors, change)
            choices = self._int4_engines(tensors)
        return replace(engine, engine=choices[engine.executed_path], packed=None)

    def _reference_engines(self, weights: Mapping[str, Tensor]) -> dict[str, ImageEngine]:
        made = [
            reference_engine(self._genome, weights, dtype, as_matrices=as_matrices)
            for dtype in DTYPES
            for as_matrices in (True, False)
        ]
        return {engine.description: engine for engine in made}

    def _int4_engines(self, tensors: Mapping[str, Int4Tensor]) -> dict[str, ImageEngine]:
        linears = {name: Int4Linear.from_tensor(tensor) for name, tensor in tensors.items()}
        made = [
            int4_engine(self._genome, self._weights, linears, path, dtype, native.isa())
            for path in PATHS
            for dtype in DTYPES
        ]
        return {engine.description: engine for engine in made}

    def _changed_reference(self, change: WeightChange) -> dict[str, Tensor]:
        changed = dict(self._weights)
        for layer in filter(is_product, layers(self._genome)):
            weight = self._weights[f"{layer.name}.weight"]
            given = weight.flatten(1).half().numpy()
            came = torch.from_numpy(change(layer.name, given)).float()
            changed[f"{layer.name}.weight"] = came.view(weight.shape)
        return changed

    def _fastest(self, choices: Mapping[str, ImageEngine], images: Tensor) -> ImageEngine:
        return fastest(list(choices.values()), images, time.monotonic_ns, PROBE_ROUNDS)
