"""The accuracy predictor: ridge regression on a subnet's genes, fitted to direct evaluations.

A subnet's features are which kernel and which expansion each block has, its resolution, and the
logarithm of its multiply-accumulates; a block that is missing has none. The penalty is the one that
predicts best what was left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgebench_workloads.wake.costs import total_macs
from edgebench_workloads.wake.genome import (
    EXPANSIONS,
    KERNELS,
    MAX_DEPTH,
    RESOLUTIONS,
    STAGES,
    Genome,
)

NAME = "ridge regression on genes and log MACs"
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """Fitted weights; error is what leaving out told, in the values' unit."""

    mean: Floats
    value: float
    weights: Floats
    error: float

    def __call__(self, genomes: Sequence[Genome]) -> list[float]:
        """The predicted value of each."""
        found: list[float] = ((features(genomes) - self.mean) @ self.weights + self.value).tolist()
        return found


def features(genomes: Sequence[Genome]) -> Floats:
    """What a prediction sees of each genome, [genomes, features]."""
    return np.array([_features(genome) for genome in genomes])


def _features(genome: Genome) -> list[float]:
    row = [float(genome.resolution == one) for one in RESOLUTIONS]
    row.append(math.log(total_macs(genome)))
    for genes, choices in ((genome.kernels, KERNELS), (genome.expansions, EXPANSIONS)):
        for stage in range(STAGES):
            for place in range(MAX_DEPTH):
                row += [float(genes[stage][place] == choice) for choice in choices]
    return row


def fit(genomes: Sequence[Genome], values: Sequence[float]) -> Predictor:
    """Fit by least squares with a penalty on the weights; two genomes at least."""
    x, y = features(genomes), np.array(values)
    mean, value = x.mean(0), float(y.mean())
    fits = [_fit(x - mean, y - value, penalty) for penalty in PENALTIES]
    weights, error = min(fits, key=lambda found: found[1])
    return Predictor(mean=mean, value=value, weights=weights, error=error)


def _fit(x: Floats, y: Floats, penalty: float) -> tuple[Floats, float]:
    """Weights, and the root mean square error of leaving one out, in closed form."""
    inverse = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1]))
    weights = inverse @ (x.T @ y)
    influence = np.einsum("nf,fg,ng->n", x, inverse, x) + 1 / len(y)  # the mean is fitted too
    left_out = (y - x @ weights) / np.maximum(1 - influence, 1e-6)
    return weights, float(np.sqrt((left_out**2).mean()))
