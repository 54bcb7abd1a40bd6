"""A network of images between two steps that change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgebench.errors import RunFailed
from edgebench.open_model import Fp16
from edgebench_workloads.wake import subnet
from edgebench_workloads.wake.genome import Genome, Layer, layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Genome and tensors, float32 with values that fp16 has, `<layer>.weight` and `.bias`."""

    genome: Genome
    tensors: Mapping[str, Tensor]

    def arrays(self) -> dict[str, Fp16]:
        """The tensors as they are filed."""
        return {name: np.ascontiguousarray(t.half().numpy()) for name, t in self.tensors.items()}

    def layer(self, name: str) -> Layer:
        """One layer by its name."""
        return next(layer for layer in layers(self.genome) if layer.name == name)


def read_network(directory: Path) -> Network:
    """A network on disk; ValueError where its tensors are not its genome's."""
    genome, tensors = subnet.read(directory)
    return Network(genome=genome, tensors=tensors)


def rounded(genome: Genome, tensors: Mapping[str, Tensor], where: str) -> Network:
    """A network of tensors rounded to fp16; RunFailed where one is not finite then."""
    made = {name: tensor.detach().half().float() for name, tensor in tensors.items()}
    broken = [name for name, tensor in made.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise RunFailed(f"[{where}] expected finite weights, got others in {broken[0]}")
    return Network(genome=genome, tensors=made)
