"""One subnet cut from the shipped supernet a second time, by numpy alone.

What `subnet.cut` and `supernet.calibrate` do, written again from the formulas, so that who checks a
subnet needs neither torch nor the code that made it. Arrays are float32 [B, H, W, C].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from edgebench_workloads.wake.dataset import (
    CALIBRATION_BATCH,
    CALIBRATION_BATCHES,
    training_pairs,
)
from edgebench_workloads.wake.genome import KERNELS, Genome, block_stride, is_residual
from edgebench_workloads.wake.scenes import SIDE

EPSILON = 1e-5  # of a variance, as in training
TOP = np.float32(6)  # of relu6

Array = npt.NDArray[np.float32]
Convolve = Callable[[Array], Array]


def extract(
    supernet: Path, genome: Genome, progress: Callable[[int, int], None] = lambda *_: None
) -> dict[str, Array]:
    """The tensors of one subnet by name, its norms calibrated and folded."""
    stored = {name: one.astype(np.float32) for name, one in load_file(supernet).items()}
    net = _Net(stored, genome)
    images = calibration_images(genome.resolution)
    for done, batch in enumerate(images, start=1):
        net.see(batch)
        progress(done, len(images))
    return net.folded()


def calibration_images(resolution: int) -> list[Array]:
    """Batches of training scenes, [B, R, R, 1] in -1..1."""
    found = training_pairs(CALIBRATION_BATCHES * CALIBRATION_BATCH)
    narrow = resizing(resolution)
    whole = np.stack([scene.image for scene in found]).astype(np.float32) / np.float32(127.5) - 1
    small = narrow @ whole @ narrow.T
    return list(small[..., None].reshape(-1, CALIBRATION_BATCH, resolution, resolution, 1))


def resizing(resolution: int) -> Array:
    """The matrix [R, 96] that makes a column smaller: a triangle of two pixels of the result."""
    if resolution == SIDE:
        return np.eye(SIDE, dtype=np.float32)
    scale = SIDE / resolution
    places = np.arange(SIDE) + 0.5
    centres = (np.arange(resolution) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(places[None] - centres[:, None]) / scale)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@dataclass(slots=True)
class _Seen:
    """The statistics of one layer's output over the batches."""

    means: list[Array] = field(default_factory=list)
    variances: list[Array] = field(default_factory=list)

    def folded_into(self, weight: Array, norm: tuple[Array, Array]) -> tuple[Array, Array]:
        """Weight and bias of a convolution whose norm is gone."""
        scale, shift = (one[: len(weight)] for one in norm)
        mean = np.mean(self.means, axis=0)
        variance = np.mean(self.variances, axis=0) + np.var(self.means, axis=0)
        factor = scale / np.sqrt(variance + np.float32(EPSILON))
        return weight * factor[:, None, None, None], shift - mean * factor


class _Net:
    """The chosen weights, and what batches went through them."""

    def __init__(self, stored: Mapping[str, Array], genome: Genome) -> None:
        self._stored, self._genome = stored, genome
        self._weights = {"stem": stored["stem.weight"]}
        for stage, place, kernel, expansion in genome.blocks():
            self._choose(f"stages.{stage}.{place}", kernel, expansion)
        self._weights["head"] = stored["head.weight"]
        self._seen = {name: _Seen() for name in self._weights}

    def _choose(self, block: str, kernel: int, expansion: int) -> None:
        whole = self._stored[f"{block}.expand"]
        middle = expansion * whole.shape[1]
        self._weights[f"{block}.expand"] = whole[:middle]
        self._weights[f"{block}.depthwise"] = self._kernel(block, kernel, middle)
        self._weights[f"{block}.project"] = self._stored[f"{block}.project"][:, :middle]

    def _kernel(self, block: str, kernel: int, middle: int) -> Array:
        """The middle of the next larger kernel through its matrix, down to the size chosen."""
        weight = self._stored[f"{block}.depthwise"][:middle]
        for smaller in sorted((size for size in KERNELS[:-1] if size >= kernel), reverse=True):
            edge = (weight.shape[2] - smaller) // 2
            inner = weight[:, :, edge : edge + smaller, edge : edge + smaller].reshape(middle, -1)
            matrix = self._stored[f"{block}.transforms.{smaller}"]
            weight = (inner @ matrix.T).reshape(middle, 1, smaller, smaller)
        return weight

    def see(self, images: Array) -> None:
        """Run one batch, each norm by the batch's own statistics, and keep them."""
        x = _relu6(self._normed("stem", _depthwise_or_stem(images, self._weights["stem"], 2)))
        for stage, place, _, _ in self._genome.blocks():
            block = f"stages.{stage}.{place}"
            y = _relu6(self._normed(f"{block}.expand", self._product(f"{block}.expand", x)))
            weight = self._weights[f"{block}.depthwise"]
            y = _depthwise_or_stem(y, weight, block_stride(place))
            y = self._product(f"{block}.project", _relu6(self._normed(f"{block}.depthwise", y)))
            y = self._normed(f"{block}.project", y)
            x = x + y if is_residual(stage, place) else y
        self._normed("head", self._product("head", x))

    def _product(self, name: str, x: Array) -> Array:
        found: Array = x @ self._weights[name][:, :, 0, 0].T
        return found

    def _normed(self, name: str, x: Array) -> Array:
        flat = x.reshape(-1, x.shape[-1])
        mean = flat.mean(0)
        variance = np.square(flat - mean).mean(0)
        seen = self._seen[name]
        seen.means.append(mean)
        seen.variances.append(variance)
        scale, shift = (one[: len(mean)] for one in self._norm(name))
        factor = scale / np.sqrt(variance + np.float32(EPSILON))
        return x * factor + (shift - mean * factor)

    def _norm(self, name: str) -> tuple[Array, Array]:
        stored = f"{name}.norm" if name in ("stem", "head") else f"{name}_norm"
        return self._stored[f"{stored}.weight"], self._stored[f"{stored}.bias"]

    def folded(self) -> dict[str, Array]:
        """Every tensor of the subnet, as it is filed before rounding."""
        found = {}
        for name, weight in self._weights.items():
            folded = self._seen[name].folded_into(weight, self._norm(name))
            found[f"{name}.weight"], found[f"{name}.bias"] = folded
        found["classifier.weight"] = self._stored["classifier.weight"][:, :, None, None]
        found["classifier.bias"] = self._stored["classifier.bias"]
        return found


def _depthwise_or_stem(x: Array, weight: Array, stride: int) -> Array:
    """A convolution whose every output channel reads one input channel: its own, or the only one.

    x [B, H, W, C] or [B, H, W, 1], weight [C, 1, k, k] -> [B, H / stride, W / stride, C].
    """
    size, edge = weight.shape[2], weight.shape[2] // 2
    batch, side = len(x), x.shape[1] // stride
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    found = np.zeros((batch, side, side, len(weight)), np.float32)
    for row in range(size):
        for column in range(size):
            seen = padded[
                :, row : row + stride * side : stride, column : column + stride * side : stride
            ]
            found += seen * weight[:, 0, row, column]
    return found


def _relu6(x: Array) -> Array:
    return np.clip(x, 0, TOP)
