"""Direct evaluation: a subnet's top-1 on validation scenes, its norms calibrated to it.

Validation scenes hold the calibration block's digits, never a scored one. What trains the predictor
is judged on the first scenes with norms of the first calibration batches, the finalists on all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from edgebench.images.engine import inputs_of, reference_engine
from edgebench_workloads.wake import subnet
from edgebench_workloads.wake.export import cut_reference, read_supernet
from edgebench_workloads.wake.genome import Genome
from edgebench_workloads.wake.scenes import Scene, scenes, scenes_sha256
from edgebench_workloads.wake.supernet import calibrate
from edgebench_workloads.wake.train import calibration_images

SPLIT = "validation"
SCENES = 1000
ROUGH_SCENES = 500
ROUGH_BATCHES = 2
BATCH = 25  # images a pass: activations of small batches stay in the cache

Weights = Mapping[str, Tensor]


class Evaluator:
    """Judges subnets of one supernet; scenes are composed once."""

    def __init__(self, supernet: Path) -> None:
        self._path = supernet
        self.count, self.rough_count = SCENES, ROUGH_SCENES
        self._resized: dict[int, Tensor] = {}

    @property
    def split(self) -> str:
        """Which scenes, in words."""
        return f"{SPLIT} scenes 0 to {self.count - 1}"

    @cached_property
    def scenes(self) -> list[Scene]:
        """All of the split."""
        return list(scenes(SPLIT, self.count))

    @cached_property
    def sha256(self) -> str:
        """Of images and answers, in order."""
        return scenes_sha256(self.scenes)

    def rough(self, genome: Genome) -> float:
        """Top-1 on the first scenes, for the predictor."""
        batches = calibration_images(genome.resolution)[:ROUGH_BATCHES]
        calibrate(self._net, genome, [_last(batch) for batch in batches])
        return self._top1(genome, subnet.cut(self._net, genome), self.rough_count)

    def exact(self, genome: Genome, weights: Weights) -> float:
        """Top-1 on all scenes of a subnet as it is filed."""
        return self._top1(genome, weights, self.count)

    def cut(self, genome: Genome) -> dict[str, Tensor]:
        """A subnet's tensors as they are filed: calibrated in full, rounded to fp16, in fp32."""
        found = cut_reference(read_supernet(self._path), genome)
        return {name: one.half().float() for name, one in found.items()}

    def images(self, resolution: int) -> Tensor:
        """f32 [B, 1, R, R] of all scenes."""
        if resolution not in self._resized:
            self._resized[resolution] = inputs_of(self.scenes, resolution)
        return self._resized[resolution]

    @cached_property
    def _net(self) -> torch.nn.Module:
        return read_supernet(self._path).to(memory_format=torch.channels_last)

    def _top1(self, genome: Genome, weights: Weights, count: int) -> float:
        engine = reference_engine(genome, weights, torch.float32, as_matrices=False)
        images = self.images(genome.resolution)[:count]
        answers = [int(scene.is_wake) for scene in self.scenes[:count]]
        came = [one for part in images.split(BATCH) for one in engine.classify(_last(part))]
        return sum(a == b for a, b in zip(came, answers, strict=True)) / count


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
