"""Noise of a layer's own statistics: its weights in an order that a seed shuffles.

Shape, size, scales and distribution of codes stay, so the work stays; what was learned goes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from edgebench.kernel_engine import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyLayer:
    """Shuffles every row of every linear of one decoder layer; a `WeightChange`."""

    layer: int
    seed: int

    def __call__(self, name: str, weights: Weights) -> Weights:
        """Return the weights that take the place of these: fp16 [N, K], or codes uint8 [N, K/2]."""
        if f".layers.{self.layer}." not in f".{name}":
            return weights
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        source = np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "big")))
        return source.permuted(weights, axis=1)
