"""Our engines of images as an auditee: the same engine, its logits, and a changed network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from edgebench.audit.auditee import LogitsPair, NotSupported
from edgebench.audit.built_auditee import BuiltAuditee
from edgebench.audit.library import ImageLibrary, Library
from edgebench.audit.noise import NoisyNetwork
from edgebench.audit.tokens import ONE_CLASS
from edgebench.images.prepared import NLL_BATCH
from edgebench.images.sut import ImageSut
from edgebench.kernel_engine import KernelEngine, WorkloadEngines

if TYPE_CHECKING:
    from torch import Tensor

    from edgebench.images.engine import ImageEngine


class ImageAuditee(BuiltAuditee):
    """One kernel of a workload of images, built as a run builds it; see Auditee."""

    def __init__(self, engines: WorkloadEngines, engine: KernelEngine, seed: int) -> None:
        super().__init__(engines, engine, NoisyNetwork(seed=seed))

    def sut(self, library: Library) -> ImageSut:
        """See Auditee."""
        return self._sut(self._engine, library)

    def perturbed(self, library: Library) -> ImageSut:
        """See Auditee: the weights of every matrix product become noise of the same statistics."""
        return self._sut(self._noisy(), library)

    def first_tokens(self, library: Library, samples: Sequence[int]) -> list[int]:
        """See Auditee."""
        raise NotSupported(ONE_CLASS)

    def logits(self, library: Library, samples: Sequence[int]) -> Iterator[LogitsPair]:
        """See Auditee: in batches as they are timed, against batches as likelihood is read."""
        engine = _network(self._engine)
        images = _images(engine, library, samples)
        timed, read = (
            [one for start in range(0, len(images), size)
             for one in engine.logits(images[start : start + size]).numpy()]
            for size in (self._engine.batch_size, NLL_BATCH)
        )  # fmt: skip
        for sample, by_step, in_one_pass in zip(samples, timed, read, strict=True):
            yield LogitsPair(
                sample=sample,
                output_ids=(int(by_step.argmax()),),
                by_step=by_step[None],
                in_one_pass=in_one_pass[None],
            )

    def _sut(self, engine: KernelEngine, library: Library) -> ImageSut:
        own = _network(engine)
        return ImageSut(
            name=self.name,
            engine=own,
            images=_images(own, library, range(len(library))),
            batch_size=engine.batch_size,
        )


def _network(engine: KernelEngine) -> ImageEngine:
    return cast("ImageEngine", engine.engine)


def _images(engine: ImageEngine, library: Library, samples: Sequence[int]) -> Tensor:
    from edgebench.images.engine import inputs_of

    assert isinstance(library, ImageLibrary)
    return inputs_of([library.scenes[sample] for sample in samples], engine.genome.resolution)
