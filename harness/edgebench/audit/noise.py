"""Noise of a layer's own statistics: its weights in an order that a seed shuffles.

Shape, size, scales and distribution of codes stay, so the work stays; what was learned goes. Four
inputs stay together and codes on their grid: weights that were 2:4 still are, and run as such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgebench.kernel_engine import Weights

# By the bytes of an element: two codes, or one fp16 weight.
FOURS: Mapping[int, np.dtype[Any]] = {1: np.dtype(np.uint16), 2: np.dtype(np.uint64)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyLayer:
    """Shuffles the fours of every row of every linear of a decoder layer; a `WeightChange`."""

    layer: int
    seed: int

    def __call__(self, name: str, weights: Weights) -> Weights:
        """See shuffled."""
        is_changed = f".layers.{self.layer}." in f".{name}"
        return shuffled(name, weights, self.seed) if is_changed else weights


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyNetwork:
    """Shuffles the fours of every row of every linear that there is; a `WeightChange`."""

    seed: int

    def __call__(self, name: str, weights: Weights) -> Weights:
        """See shuffled."""
        return shuffled(name, weights, self.seed)


def shuffled(name: str, weights: Weights, seed: int) -> Weights:
    """Return the weights that take the place of these, of the same type and shape.

    fp16 [N, K], or codes uint8 [N K/G, G/2]; rows that fours do not fill go weight by weight.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    source = np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "big")))
    whole = FOURS[weights.dtype.itemsize]
    if weights.shape[1] * weights.dtype.itemsize % whole.itemsize:
        return source.permuted(weights, axis=1)
    fours = np.ascontiguousarray(weights).view(whole)
    found: Weights = source.permuted(fours, axis=1).view(weights.dtype)
    return found
