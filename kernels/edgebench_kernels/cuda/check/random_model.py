"""A random model in three forms with the same weights: our INT4, fp16, torch's INT4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench_kernels.cuda.check.peers import TorchInt4, is_high_first, pack_torch
from edgebench_kernels.cuda.engine import GpuEngine
from edgebench_kernels.cuda.engine_linears import Fp16Linear, Int4Path
from edgebench_kernels.cuda.engine_model import GpuLinear
from edgebench_kernels.cuda.engine_state import Room
from edgebench_kernels.cuda.launcher import Launcher
from edgebench_kernels.cuda.linear import GpuInt4
from edgebench_kernels.cuda.products import swiglu
from edgebench_kernels.engine.arithmetic import PathChoice
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.fuse import fused_shapes
from edgebench_kernels.engine.weights import linear_shapes, tensor_shapes
from edgebench_kernels.formats import SYMMETRIC_ZERO, Int4Tensor

GROUP = 128
CODE_DEVIATION = 4.61
"""Of codes -8..7, all as likely."""

INT4, FP16, TORCH = "int4", "fp16", "torch int4"


class TorchInt4Linear:
    """torch's INT4 product in our engine; it takes and gives bf16, so each call converts twice."""

    logits_dtype = torch.float16

    def __init__(self, launcher: Launcher, weights: TorchInt4, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._launcher, self._weights = launcher, weights

    def multiply(self, x: Tensor, y: Tensor) -> None:
        """See GpuLinear."""
        y.copy_(self._weights.multiply(x.bfloat16()))

    def swiglu(self, x: Tensor, y: Tensor) -> None:
        """See GpuLinear."""
        swiglu(self._launcher, self._weights.multiply(x.bfloat16()).half(), y)

    def fused(self, rows: int) -> None:
        """See GpuLinear: torch's product does not fuse."""

    def weight_bytes_at(self, rows: int) -> int:
        """See GpuLinear."""
        return self._weights.size_bytes

    def describe(self) -> str:
        """See GpuLinear."""
        return "torch int4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Linears:
    """Every linear of a model in each form that was asked for."""

    forms: dict[str, dict[str, GpuLinear]]
    tensors: dict[str, Tensor]
    """Embedding and norms, on the device."""


def make(launcher: Launcher, config: LlamaConfig, forms: tuple[str, ...]) -> Linears:
    """Random codes with scales that keep the size of activations."""
    generator = torch.Generator(launcher.device).manual_seed(0)
    made: dict[str, dict[str, GpuLinear]] = {form: {} for form in forms}
    for name, (n, k) in fused_shapes(config).items():
        pair = n // 2 if name.endswith(".gate_up") else 0
        tensor = _random_tensor(n, k, generator, launcher.device)
        for form in forms:
            made[form][name] = FORMS[form](launcher, tensor, pair)
    tensors = dict(_others(config, generator, launcher.device))
    return Linears(forms=made, tensors=tensors)


def engine(
    launcher: Launcher, config: LlamaConfig, linears: Linears, form: str, room: Room
) -> GpuEngine:
    """The engine of one form."""
    return GpuEngine(launcher, config, linears.tensors, linears.forms[form], room)


def _random_tensor(n: int, k: int, generator: torch.Generator, device: torch.device) -> Int4Tensor:
    codes = torch.randint(
        0, 256, (n, k // 2), dtype=torch.uint8, generator=generator, device=device
    )
    spread = torch.rand(n, k // GROUP, generator=generator, device=device) + 0.5
    scale = (spread / (CODE_DEVIATION * k**0.5)).half().cpu().numpy()
    zero = torch.full((n, k // GROUP), SYMMETRIC_ZERO, dtype=torch.uint8).numpy()
    return Int4Tensor(qweight=codes.cpu().numpy(), scale=scale, zero=zero, group=GROUP)


def _int4(launcher: Launcher, tensor: Int4Tensor, pair: int) -> GpuLinear:
    return Int4Path(GpuInt4.pack(launcher, tensor, pair=pair), PathChoice.of("w4a16"))


def _fp16(launcher: Launcher, tensor: Int4Tensor, pair: int) -> GpuLinear:
    del pair
    return Fp16Linear(launcher, [dense(tensor, launcher.device)])


def _torch(launcher: Launcher, tensor: Int4Tensor, pair: int) -> GpuLinear:
    del pair
    order = is_high_first(launcher.device)
    packed = pack_torch(tensor, launcher.device, is_high_first=order)
    return TorchInt4Linear(launcher, packed, tensor.shape)


FORMS: dict[str, Callable[[Launcher, Int4Tensor, int], GpuLinear]] = {
    INT4: _int4,
    FP16: _fp16,
    TORCH: _torch,
}


def dense(tensor: Int4Tensor, device: torch.device) -> Tensor:
    """fp16 [N, K] on the device, computed there."""
    n, k = tensor.shape
    codes = torch.from_numpy(tensor.qweight).to(device)
    both = torch.stack([codes & 15, codes >> 4], dim=-1).view(n, -1, tensor.group)
    zero = torch.from_numpy(tensor.zero).to(device)[:, :, None]
    scale = torch.from_numpy(tensor.scale).to(device)[:, :, None]
    return ((both.half() - zero.half()) * scale).view(n, k)


def _others(
    config: LlamaConfig, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """The embedding, of about one, and norms of about one."""
    linears = set(linear_shapes(config))
    for name, shape in tensor_shapes(config).items():
        if name not in linears:
            noise = torch.randn(shape, generator=generator, device=device)
            yield name, (1 + 0.1 * noise if "norm" in name else noise).half()
