"""Scenes as a network takes them: one of the space's resolutions, in -1..1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgebench_workloads.wake.scenes import SIDE, Scene


def tensors(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Images float32 [B, 1, 96, 96] in -1..1 and answers int64 [B]."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).float() / 127.5 - 1
    return images[:, None], torch.tensor([int(scene.is_wake) for scene in scenes])


def resized(images: Tensor, resolution: int) -> Tensor:
    """[B, 1, 96, 96] -> [B, 1, R, R], bilinear with antialiasing."""
    if resolution == SIDE:
        return images
    return F.interpolate(images, (resolution, resolution), mode="bilinear", antialias=True)
