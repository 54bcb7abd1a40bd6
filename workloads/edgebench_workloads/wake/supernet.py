"""The once-for-all supernet: one set of weights that every subnet of the space is cut from.

A narrower block takes the first channels, a shallower stage the first blocks, and a smaller kernel
the middle of the next larger one through a learned matrix (Once-for-All, arXiv:1908.09791). Batch
normalisation has no statistics of its own that hold for all subnets: `calibrate` measures them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebench_workloads.wake.genome import (
    CLASSES,
    EXPANSIONS,
    HEAD_CHANNELS,
    KERNELS,
    MAX_DEPTH,
    STAGE_CHANNELS,
    STEM_CHANNELS,
    STEM_KERNEL,
    Genome,
    block_stride,
    is_residual,
)

EPSILON = 1e-5
WIDEST, LARGEST_KERNEL = max(EXPANSIONS), max(KERNELS)


class Norm(nn.Module):
    """Batch normalisation of the first channels; the statistics are the batch's, or calibrated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.statistics: tuple[Tensor, Tensor] | None = None
        """Mean and variance; None takes the batch's."""
        self.seen: list[tuple[Tensor, Tensor]] | None = None
        """Collects every batch's statistics while calibrating."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, H, W]."""
        count = x.shape[1]
        weight, bias = self.weight[:count], self.bias[:count]
        if self.statistics is not None:
            mean, variance = self.statistics
            return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, EPSILON)
        if self.seen is not None:
            variance, mean = torch.var_mean(x.detach(), (0, 2, 3), correction=0)
            self.seen.append((mean, variance))
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, EPSILON)


class Convolution(nn.Module):
    """An ordinary convolution with its norm: the stem and the head."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.norm = Norm(outputs)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W'], not negative."""
        x = F.conv2d(x, self.weight, None, self.stride, self.weight.shape[2] // 2)
        return F.relu6(self.norm(x))


class ElasticBlock(nn.Module):
    """An inverted bottleneck of any expansion and kernel of the space."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        middle = WIDEST * inputs
        self.inputs, self.stride, self.residual = inputs, stride, residual
        self.expand = nn.Parameter(torch.empty(middle, inputs, 1, 1))
        self.depthwise = nn.Parameter(torch.empty(middle, 1, LARGEST_KERNEL, LARGEST_KERNEL))
        self.project = nn.Parameter(torch.empty(outputs, middle, 1, 1))
        for weight in (self.expand, self.depthwise, self.project):
            nn.init.kaiming_normal_(weight, mode="fan_out")
        self.transforms = nn.ParameterDict(
            {str(size): nn.Parameter(torch.eye(size * size)) for size in KERNELS[:-1]}
        )
        """By kernel size: what turns the middle of the next larger kernel into this one."""
        self.expand_norm, self.depthwise_norm = Norm(middle), Norm(middle)
        self.project_norm = Norm(outputs)

    def kernel_of(self, size: int, channels: int) -> Tensor:
        """The depthwise weights [channels, 1, size, size] of one kernel size."""
        weight = self.depthwise[:channels]
        for smaller in reversed(KERNELS[:-1]):
            if weight.shape[2] <= size:
                break
            edge = (weight.shape[2] - smaller) // 2
            middle = weight[:, :, edge : edge + smaller, edge : edge + smaller].flatten(1)
            weight = (middle @ self.transforms[str(smaller)].T).view(-1, 1, smaller, smaller)
        return weight

    def weights_of(self, size: int, expansion: int) -> tuple[Tensor, Tensor, Tensor]:
        """The three weights of one choice: expand, depthwise, project."""
        middle = expansion * self.inputs
        return self.expand[:middle], self.kernel_of(size, middle), self.project[:, :middle]

    def forward(self, x: Tensor, size: int, expansion: int) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        expand, depthwise, project = self.weights_of(size, expansion)
        y = F.relu6(self.expand_norm(F.conv2d(x, expand)))
        y = F.conv2d(y, depthwise, None, self.stride, size // 2, 1, len(depthwise))
        y = self.project_norm(F.conv2d(F.relu6(self.depthwise_norm(y)), project))
        return x + y if self.residual else y

    def sort_channels(self) -> None:
        """Put the middle channels that the projection weighs most first; nothing else changes."""
        order = self.project.detach().abs().sum((0, 2, 3)).argsort(descending=True)
        with torch.no_grad():
            self.project.copy_(self.project[:, order])
            for parameter in (
                self.expand,
                self.depthwise,
                *self.expand_norm.parameters(),
                *self.depthwise_norm.parameters(),
            ):
                parameter.copy_(parameter[order])


class Supernet(nn.Module):
    """All subnets at once; forward takes images of the genome's resolution and the genome."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(1, STEM_CHANNELS, STEM_KERNEL, 2)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage, outputs in enumerate(STAGE_CHANNELS):
            blocks = nn.ModuleList()
            for place in range(MAX_DEPTH):
                stride, residual = block_stride(place), is_residual(stage, place)
                blocks.append(ElasticBlock(channels, outputs, stride, residual=residual))
                channels = outputs
            self.stages.append(blocks)
        self.head = Convolution(channels, HEAD_CHANNELS, 1, 1)
        self.classifier = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, images: Tensor, genome: Genome) -> Tensor:
        """[B, 1, R, R] in -1..1 -> logits [B, 2]."""
        x = self.stem(images)
        for stage, place, size, expansion in genome.blocks():
            x = self.stages[stage][place](x, size, expansion)
        return torch.as_tensor(self.classifier(self.head(x).mean((2, 3))))

    def norms(self) -> list[Norm]:
        """Every norm."""
        return [module for module in self.modules() if isinstance(module, Norm)]

    def sort_channels(self) -> None:
        """Order every block's middle channels by weight, before narrower blocks take the first."""
        for module in self.modules():
            if isinstance(module, ElasticBlock):
                module.sort_channels()


def calibrate(net: Supernet, genome: Genome, batches: Iterable[Tensor]) -> None:
    """Fix every norm's statistics to one subnet's: the plain average over batches of equal size."""
    release(net)
    for norm in net.norms():
        norm.seen = []
    with torch.inference_mode():
        for images in batches:
            net(images, genome)
    for norm in net.norms():
        if norm.seen:
            means, variances = zip(*norm.seen, strict=True)
            mean = torch.stack(means).mean(0)
            # Of the whole, not the average within: batches differ in their means.
            spread = torch.stack(means).var(0, correction=0)
            norm.statistics = (mean, torch.stack(variances).mean(0) + spread)
        norm.seen = None


def release(net: Supernet) -> None:
    """Let every norm take its batch's statistics again."""
    for norm in net.norms():
        norm.statistics, norm.seen = None, None
