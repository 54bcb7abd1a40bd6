"""A network of convolutions as it executes: its matrix products by some kernel, the rest by torch.

Activations lie channels last, so that the pixels of a 1x1 convolution are the rows of a matrix:
[B, C, H, W] is [B*H*W, C] without a copy. Answers are f32 logits, whatever the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from edgebench.roofline import Arithmetic
from edgebench_kernels import native
from edgebench_kernels.linear import cpu_layer, dequantized_layer
from edgebench_kernels.packing import PackedInt4
from edgebench_workloads.wake.costs import is_product
from edgebench_workloads.wake.genome import Genome, Layer, layers
from edgebench_workloads.wake.images import resized, tensors
from edgebench_workloads.wake.scenes import Scene
from edgebench_workloads.wake.subnet import CLAMP, Multiply, convolution, forward

DTYPES: Mapping[torch.dtype, Arithmetic] = {torch.float32: "fp32", torch.bfloat16: "bf16"}
DEQUANTIZED = "w4_dequant"
"""The path that dequantizes weights at every call, for torch's products."""
UNBOUNDED = (-math.inf, math.inf)
CUT_RATIO = 4  # where an arithmetic has no instructions, torch is many times slower; noise is not

Product = Callable[[Tensor], Tensor]
Weights = Mapping[str, Tensor]
"""Name -> weight [N, K / groups, k, k] or bias [N]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEngine:
    """A network that is ready to answer."""

    genome: Genome
    multiply: Multiply
    dtype: torch.dtype
    """Of the activations between layers."""
    arithmetic: Arithmetic
    """Of the matrix products."""
    weight_bytes: int
    """Of the matrix products, as they execute."""
    description: str
    """What executes, and on which layers."""
    linears: Mapping[str, PackedInt4] = field(default_factory=dict)
    is_clamped: bool = False
    """Whether `multiply` ends with relu6 itself."""

    def logits(self, images: Tensor) -> Tensor:
        """f32 [B, 1, R, R] -> f32 [B, classes]."""
        with torch.inference_mode():
            logits = forward(
                self.genome, self.multiply, images.to(self.dtype), is_clamped=self.is_clamped
            )
            return logits.float()

    def classify(self, images: Tensor) -> list[int]:
        """f32 [B, 1, R, R] -> one class an image.

        Raises FloatingPointError where a logit is not finite.
        """
        logits = self.logits(images)
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError(f"[{self.description}] expected finite logits, got others")
        found: list[int] = logits.argmax(1).tolist()
        return found

    def weight_bytes_at(self, batch: int) -> int:
        """Bytes of the products' weights, read once whatever the batch."""
        return self.weight_bytes


def inputs_of(scenes: Sequence[Scene], resolution: int) -> Tensor:
    """Scenes as a network of a resolution takes them, f32 [B, 1, R, R]."""
    parts = [scenes[start : start + 256] for start in range(0, len(scenes), 256)]
    return torch.cat([resized(tensors(part)[0], resolution) for part in parts])


def class_nll(engine: ImageEngine, images: Tensor, classes: Sequence[int]) -> list[float]:
    """Nats of the right class of each image."""
    log_probabilities = torch.log_softmax(engine.logits(images).double(), 1)
    picked = log_probabilities.gather(1, torch.tensor(classes)[:, None])
    return [max(0.0, -float(one)) for one in picked]


def reference_engine(
    genome: Genome, weights: Weights, dtype: torch.dtype, *, as_matrices: bool
) -> ImageEngine:
    """Every layer in one arithmetic by torch; 1x1 convolutions as matrix products where asked."""
    own = _laid_out(weights, dtype)
    convolve = convolution(own)
    products = [layer for layer in layers(genome) if is_product(layer)]
    flat = {layer.name: own[f"{layer.name}.weight"].flatten(1) for layer in products}

    def multiply(layer: Layer, x: Tensor) -> Tensor:
        if layer.name not in flat or not as_matrices:
            return convolve(layer, x)
        rows = F.linear(x.permute(0, 2, 3, 1), flat[layer.name], own[f"{layer.name}.bias"])
        return rows.permute(0, 3, 1, 2)

    how = "as matrix products" if as_matrices else "as convolutions"
    return ImageEngine(
        genome=genome,
        multiply=multiply,
        dtype=dtype,
        arithmetic=DTYPES[dtype],
        weight_bytes=sum(one.numel() * one.element_size() for one in flat.values()),
        description=f"torch {DTYPES[dtype]}, {len(products)} 1x1 layers {how}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Way:
    """How a network of INT4 products runs."""

    path: str
    """Of the kernels, or DEQUANTIZED."""
    dtype: torch.dtype
    """Of the layers that torch runs."""
    is_alone: bool = False
    """The products run on the calling thread, while torch's threads take turns with it."""

    @property
    def between(self) -> torch.dtype:
        """Of the activations between layers: our kernels take float32."""
        return self.dtype if self.path == DEQUANTIZED else torch.float32

    @property
    def arithmetic(self) -> Arithmetic:
        """Of the matrix products."""
        return DTYPES[self.dtype] if self.path == DEQUANTIZED else "int8"

    @property
    def text(self) -> str:
        """The path, what multiplies and, where it is one, the thread."""
        if self.path == DEQUANTIZED:
            return f"{self.path}+torch {DTYPES[self.dtype]}"
        return f"{self.path}/{native.isa()}" + (", one thread," if self.is_alone else "")

    def product(self, packed: PackedInt4, bias: Tensor, *, is_clamped: bool) -> Product:
        """A layer [..., K] -> [..., N] with its bias [N], and relu6 where it has it."""
        if self.path != DEQUANTIZED:
            clamp = CLAMP if is_clamped else UNBOUNDED
            bias = bias.contiguous()
            return cpu_layer(packed, self.path, bias, clamp=clamp, is_alone=self.is_alone)
        plain = dequantized_layer(packed, bias.to(self.dtype))
        return (lambda x: F.relu6(plain(x), inplace=True)) if is_clamped else plain


def int4_engine(
    genome: Genome, weights: Weights, linears: Mapping[str, PackedInt4], way: Int4Way, others: str
) -> ImageEngine:
    """Matrix products of INT4 weights, the rest by torch.

    others: what the layers that torch runs are, in the description's words.
    """
    convolve = convolution(_laid_out(weights, way.dtype))
    own = {
        layer.name: way.product(
            linears[layer.name], weights[f"{layer.name}.bias"], is_clamped=layer.is_clamped
        )
        for layer in layers(genome)
        if layer.name in linears
    }

    def multiply(layer: Layer, x: Tensor) -> Tensor:
        if layer.name in own:
            return own[layer.name](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = convolve(layer, x.to(way.dtype))
        return (F.relu6(y, inplace=True) if layer.is_clamped else y).to(way.between)

    left = len(layers(genome)) - len(own)
    return ImageEngine(
        genome=genome,
        multiply=multiply,
        dtype=way.between,
        arithmetic=way.arithmetic,
        weight_bytes=sum(packed.size_bytes for packed in linears.values()),
        description=f"{way.text} on {len(own)} 1x1 layers, "
        f"torch {DTYPES[way.dtype]} on {left} others ({others})",
        linears=linears,
        is_clamped=True,
    )


def fastest(
    engines: Sequence[ImageEngine], images: Tensor, clock: Callable[[], int], rounds: int
) -> ImageEngine:
    """The engine with the fastest pass over some images: see race."""
    return race(engines, images, clock, rounds)[0]


def race(
    engines: Sequence[ImageEngine], images: Tensor, clock: Callable[[], int], rounds: int
) -> tuple[ImageEngine, int]:
    """The engine with the fastest pass over some images, and what that took on the clock.

    All take turns, the first round warms. One that a later round shows to be CUT_RATIO times slower
    than the fastest takes no more turns.
    """
    best: dict[int, int] = {}
    alive = list(range(len(engines)))
    for turn in range(rounds + 1):
        for place in alive:
            begin = clock()
            engines[place].logits(images)
            took = clock() - begin
            if turn:
                best[place] = min(took, best.get(place, took))
        if best:
            limit = CUT_RATIO * min(best.values())
            alive = [place for place in alive if best[place] <= limit]
    place = min(best, key=best.__getitem__)
    return engines[place], best[place]


def _laid_out(weights: Weights, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights in an arithmetic, channels last."""
    return {
        name: one.to(dtype).contiguous(memory_format=torch.channels_last)
        if one.dim() == 4
        else one.to(dtype)
        for name, one in weights.items()
    }
