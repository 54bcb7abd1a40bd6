"""A workload of images, ready to be measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgebench.answers import ClassKey
from edgebench.errors import SpecError
from edgebench.images.cost import cost_of
from edgebench.images.graph import read_genome
from edgebench.images.sut import ImageSut
from edgebench.loadgen import SystemUnderTest
from edgebench.prepared import PreparedWorkload, Update
from edgebench.record import Kernel, ModelCost, NllRow
from edgebench.transform import TransformChain, TransformSpec
from edgebench.transform.convolutions import ConvolutionLinears
from edgebench_workloads.catalog import Workload
from edgebench_workloads.wake.costs import products
from edgebench_workloads.wake.genome import Genome
from edgebench_workloads.wake.scenes import Scene

if TYPE_CHECKING:
    from edgebench.engines import KernelEngine, WorkloadEngines
    from edgebench.images.engine import ImageEngine

NLL_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImages(PreparedWorkload):
    """See PreparedWorkload: images and their classes, in the scored set's order."""

    genome: Genome
    scenes: Sequence[Scene]

    @property
    def scored_count(self) -> int:
        """See PreparedWorkload."""
        return len(self.scenes)

    @property
    def input_tokens(self) -> Sequence[int]:
        """See PreparedWorkload."""
        return [1] * len(self.scenes)

    @property
    def classes(self) -> list[int]:
        """The right class of every image."""
        return [int(scene.is_wake) for scene in self.scenes]

    def cost(self, kernel: Kernel) -> ModelCost:
        """What the model costs on paper, as a kernel holds it."""
        tensors = self.quantized.tensors if kernel == "int4" else {}
        return cost_of(self.genome, {name: tensor.group for name, tensor in tensors.items()})

    def judge(self) -> ClassKey:
        """See PreparedWorkload."""
        return ClassKey(self.classes)

    def cpu_engines(self, kernels: Sequence[Kernel]) -> WorkloadEngines:
        """See PreparedWorkload."""
        from edgebench.images.engines import CpuImageEngines

        return CpuImageEngines(self, kernels)

    def sut(self, engine: KernelEngine) -> SystemUnderTest:
        """See PreparedWorkload."""
        from edgebench.images.engine import inputs_of

        return ImageSut(
            name=f"{engine.kernel} ({engine.executed_path})",
            engine=cast("ImageEngine", engine.engine),
            images=inputs_of(self.scenes, self.genome.resolution),
            batch_size=engine.batch_size,
        )

    def likelihood(self, engine: KernelEngine, samples: int, update: Update) -> Iterator[NllRow]:
        """See PreparedWorkload: of the right class, in nats an image."""
        from edgebench.images.engine import class_nll, inputs_of

        images = inputs_of(self.scenes, self.genome.resolution)
        classes, own = self.classes, cast("ImageEngine", engine.engine)
        for start in range(0, samples, NLL_BATCH):
            batch = range(start, min(start + NLL_BATCH, samples))
            nats = class_nll(own, images[batch.start : batch.stop], [classes[i] for i in batch])
            for sample, nll in zip(batch, nats, strict=True):
                yield NllRow(kernel=engine.kernel, sample=sample, nll_nats=nll, tokens=1)
            update(batch.stop, samples)


def open_linears(workload: Workload, directory: Path) -> ConvolutionLinears:
    """What transforms quantize of a reference whose hash is verified: its matrix products."""
    return ConvolutionLinears(
        path=directory / "model.safetensors",
        sha256=workload.reference_sha256,
        names=tuple(sorted(layer.name for layer in products(read_genome(directory)))),
    )


def image_chain(chain: TransformChain) -> TransformChain:
    """The chain as it is applied to convolutions; SpecError for one that knows only text models."""
    if chain.names != ("rtn",):
        raise SpecError(
            f"[transform] expected rtn for a workload of images, got {chain}: the others learn "
            "from the activations of Llama's layers; leave --transform out"
        )
    parameters = {**chain.steps[0].parameters, "whole_rows": True}
    return TransformChain(steps=(TransformSpec(name="rtn", parameters=parameters),))
