"""A workload of images, ready to be measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from edgebench.answers import ClassKey
from edgebench.coded import encode
from edgebench.images.cost import cost_of
from edgebench.images.graph import read_genome
from edgebench.images.sut import ImageSut
from edgebench.kernel_engine import KernelEngine
from edgebench.loadgen import SystemUnderTest
from edgebench.prepared import PreparedWorkload, Update
from edgebench.record import Kernel, ModelCost, NllRow
from edgebench.transform.convolutions import ConvolutionLinears
from edgebench_workloads.catalog import Workload
from edgebench_workloads.wake.costs import convolutions, products
from edgebench_workloads.wake.genome import Genome
from edgebench_workloads.wake.scenes import Scene

if TYPE_CHECKING:
    from edgebench.images.changed import ChangedNetwork
    from edgebench.images.engine import ImageEngine
    from edgebench.transform.nas_found import FoundSubnet

NLL_BATCH = 64
SUPERNET = "supernet.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImages(PreparedWorkload):
    """See PreparedWorkload: images and their classes, in the scored set's order."""

    genome: Genome
    """The reference's."""
    scenes: Sequence[Scene]
    found: FoundSubnet | None = None
    """The open track's subnet, where a search found one."""
    changed: ChangedNetwork | None = None
    """The open track's network, where steps changed the reference."""

    @property
    def candidate(self) -> FoundSubnet | ChangedNetwork | None:
        """The open track's model; None where the reference itself runs or is quantized."""
        return self.found or self.changed

    @property
    def candidate_directory(self) -> Path:
        """What runs beside the reference, or is quantized to."""
        return self.directory if self.candidate is None else self.candidate.directory

    @property
    def candidate_genome(self) -> Genome:
        """Its genome."""
        return self.genome if self.candidate is None else read_genome(self.candidate.directory)

    @property
    def kept_arrays(self) -> Mapping[str, NDArray[np.generic]]:
        """See PreparedWorkload: the whole open model."""
        return {} if self.candidate is None else self.candidate.arrays()

    @property
    def coded_bytes(self) -> bytes | None:
        """See PreparedWorkload: where values are shared."""
        if self.changed is None or not self.changed.is_shared:
            return None
        return encode(self.candidate_genome, self.changed.arrays())

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
        genome = self.genome if kernel == "fp16" else self.candidate_genome
        if kernel != "int4":
            return cost_of(genome, {})
        groups = {name: tensor.group for name, tensor in self.quantized.tensors.items()}
        return cost_of(genome, groups, is_int8=bool(self.quantized.convolutions))

    def judge(self) -> ClassKey:
        """See PreparedWorkload."""
        return ClassKey(self.classes)

    def sut(self, engine: KernelEngine) -> SystemUnderTest:
        """See PreparedWorkload."""
        from edgebench.images.engine import inputs_of

        own = cast("ImageEngine", engine.engine)
        return ImageSut(
            name=f"{engine.kernel} ({engine.executed_path})",
            engine=own,
            images=inputs_of(self.scenes, own.genome.resolution),
            batch_size=engine.batch_size,
        )

    def likelihood(self, engine: KernelEngine, samples: int, update: Update) -> Iterator[NllRow]:
        """See PreparedWorkload: of the right class, in nats an image."""
        from edgebench.images.engine import class_nll, inputs_of

        classes, own = self.classes, cast("ImageEngine", engine.engine)
        images = inputs_of(self.scenes, own.genome.resolution)
        for start in range(0, samples, NLL_BATCH):
            batch = range(start, min(start + NLL_BATCH, samples))
            nats = class_nll(own, images[batch.start : batch.stop], [classes[i] for i in batch])
            for sample, nll in zip(batch, nats, strict=True):
                yield NllRow(kernel=engine.kernel, sample=sample, nll_nats=nll, tokens=1)
            update(batch.stop, samples)


def open_linears(workload: Workload, directory: Path) -> ConvolutionLinears:
    """What transforms quantize of a reference whose hash is verified."""
    return linears_of(directory, workload.reference_sha256)


def linears_of(directory: Path, sha256: str) -> ConvolutionLinears:
    """The layers of a subnet whose hash is verified: its matrix products, and the others."""
    genome = read_genome(directory)
    return ConvolutionLinears(
        path=directory / "model.safetensors",
        sha256=sha256,
        names=tuple(sorted(layer.name for layer in products(genome))),
        convolutions=tuple(sorted(layer.name for layer in convolutions(genome))),
    )
