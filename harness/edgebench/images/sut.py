"""The system under test for images: one class id for each, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgebench.loadgen import QuerySample

if TYPE_CHECKING:
    from torch import Tensor

    from edgebench.images.engine import ImageEngine


class ImageSut:
    """Classifies images; splits an offline query into batches of its own choice.

    The library holds images as the network takes them, so resizing and scaling are not timed
    (MLPerf allows preprocessing before). An answer is one class and has no first token.
    """

    def __init__(self, *, name: str, engine: ImageEngine, images: Tensor, batch_size: int) -> None:
        self.name = name
        self.engine = engine
        self.batch_size = batch_size
        self._images = images

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        """Answer every sample of the query; complete takes the sample's id and its one class."""
        for start in range(0, len(samples), self.batch_size):
            batch = samples[start : start + self.batch_size]
            images = self._images[[sample.index for sample in batch]]
            for sample, answer in zip(batch, self.engine.classify(images), strict=True):
                complete(sample.id, [answer])
