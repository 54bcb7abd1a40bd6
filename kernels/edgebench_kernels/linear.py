"""`Int4Linear`: y = x W^T for torch, on packed INT4 weights that all paths share, CPU or GPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from edgebench_kernels import native
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.packing import LAYER_FAMILIES, LINEAR_DOORS, Layout, PackedInt4

if TYPE_CHECKING:
    from edgebench_kernels.cuda.linear import GpuInt4

PATHS = tuple(LINEAR_DOORS)
NUMBERS = {torch.float32: 0, torch.bfloat16: 1}
"""What weights are dequantized to, by the door's numbers."""


class Int4Linear(torch.nn.Module):
    """A linear layer without bias over INT4 weights [N, K].

    `path` may be set between calls: "w4a16" keeps activations at 16 bits (on CPUs fixed point, with
    a relative error of about 5e-5; on GPUs fp16, 5e-4), "w4a8" at dynamic int8 per token and group
    (about 1e-2) and is the faster one for many tokens; "w4a8-token" is w4a8 with one scale for each
    token. Inference only: no gradient flows.
    """

    def __init__(self, packed: PackedInt4 | GpuInt4, path: str = "w4a16") -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.packed = packed
        self.device = torch.device("cpu") if isinstance(packed, PackedInt4) else packed.device
        self.path = path

    @classmethod
    def from_tensor(
        cls,
        tensor: Int4Tensor,
        path: str = "w4a16",
        device: str | torch.device = "cpu",
        layout: Layout = "dense",
    ) -> Int4Linear:
        """Pack the canonical tensor for a device and wrap it; the tensor is not kept.

        layout "2:4" (CPUs only) stores two of every four inputs: ValueError, with the place, for
        a tensor that has more. Raises `cuda.errors.CudaError`, which names the fix, where a GPU
        cannot be used.
        """
        if torch.device(device).type == "cpu":
            return cls(PackedInt4(tensor, layout), path)
        if layout != "dense":
            raise ValueError(f"[Int4Linear] layout must be dense on a GPU, got '{layout}'")
        from edgebench_kernels.cuda.launcher import launcher_of
        from edgebench_kernels.cuda.linear import GpuInt4

        return cls(GpuInt4.pack(launcher_of(device), tensor), path)

    @property
    def path(self) -> str:
        """The arithmetic of the next forward, one of PATHS."""
        return self._path

    @path.setter
    def path(self, path: str) -> None:
        if path not in PATHS:
            raise ValueError(f"[Int4Linear] path must be one of {', '.join(PATHS)}, got '{path}'")
        self._path = path
        packed = self.packed
        if isinstance(packed, PackedInt4):
            self._product = _cpu_product(packed, path)
        else:
            self._product = packed.product(path)

    @property
    def executed_path(self) -> str:
        """For the record: the path, and the layout where it is not the dense one."""
        layout = getattr(self.packed, "layout", "dense")
        return self._path if layout == "dense" else f"{self._path}-{layout}"

    @property
    def weight_bytes(self) -> int:
        """Packed bytes that one pass over the weights reads: codes, scales, zeros and padding."""
        return self.packed.size_bytes

    def extra_repr(self) -> str:
        """What torch prints inside Int4Linear(...)."""
        shape = f"{self.in_features}, {self.out_features}"
        return f"{shape}, group={self.packed.group}, {self.executed_path}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [..., K] -> float32 [..., N]; other float types are converted first."""
        shape = x.shape
        if not x.is_floating_point():
            raise TypeError(f"[{self._path}] x must be of a float type, got {x.dtype}")
        if not shape or shape[-1] != self.in_features or x.device != self.device:
            place = "CPU" if self.device.type == "cpu" else str(self.device)
            raise ValueError(
                f"[{self._path}] x must be a {place} tensor [..., K={self.in_features}], "
                f"got {list(shape)} on {x.device}"
            )
        if x.dtype is not torch.float32:
            x = x.to(torch.float32)
        if not x.is_contiguous():
            x = x.contiguous()
        y = torch.empty(*shape[:-1], self.out_features, device=self.device)
        if x.numel():
            self._product(x, y)
        return y


def _cpu_product(packed: PackedInt4, path: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """From float32 [..., K] to float32 [..., N], both contiguous."""
    door, (n, k) = getattr(native.library(), LINEAR_DOORS[path]), packed.shape

    def product(x: torch.Tensor, y: torch.Tensor) -> None:
        m = x.numel() // k
        error = door(packed.handle, m, x.data_ptr(), y.data_ptr())
        if error:
            native.check(error, path, f"M={m}, weights [{n}, {k}]")

    return product


def cpu_layer(
    packed: PackedInt4,
    path: str,
    bias: torch.Tensor,
    *,
    clamp: tuple[float, float] = (-math.inf, math.inf),
    is_alone: bool = False,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """x W^T + bias, clamped, in one pass: float32 [..., K] -> float32 [..., N].

    bias: float32 [N].   is_alone: the calling thread does all of the work; where torch's own
    threads still spin behind what they did last, they fight the pool's for the CPUs.
    Raises ValueError for another path than "w4a16" and "w4a8", and for another bias.
    """
    n, k = packed.shape
    if path not in LAYER_FAMILIES:
        raise ValueError(f"[layer] path must be one of {', '.join(LAYER_FAMILIES)}, got '{path}'")
    if bias.shape != (n,) or bias.dtype is not torch.float32 or not bias.is_contiguous():
        raise ValueError(
            f"[layer] bias must be float32 [N={n}], got {bias.dtype} {list(bias.shape)}"
        )
    door, family, (low, high) = native.library().eb_w4_layer, LAYER_FAMILIES[path], clamp

    def layer(x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != k or x.dtype is not torch.float32:
            raise ValueError(f"[layer] x must be float32 [..., {k}], got {x.dtype} {list(x.shape)}")
        x = x.contiguous()
        y = torch.empty(*x.shape[:-1], n)
        m = x.numel() // k
        error = door(
            packed.handle,
            family,
            is_alone,
            bias.data_ptr(),
            low,
            high,
            m,
            x.data_ptr(),
            y.data_ptr(),
        )
        if error:
            native.check(error, path, f"M={m}, weights [{n}, {k}], clamp {low:g}..{high:g}")
        return y

    return layer


def dequantized(packed: PackedInt4, dtype: torch.dtype) -> torch.Tensor:
    """The weights [N, K] as numbers, exact in float32, to nearest even in bfloat16.

    Raises ValueError for another dtype.
    """
    if dtype not in NUMBERS:
        known = ", ".join(str(one) for one in NUMBERS)
        raise ValueError(f"[dequantize] dtype must be one of {known}, got {dtype}")
    weights = torch.empty(packed.shape, dtype=dtype)
    error = native.library().eb_w4_dequantize(packed.handle, NUMBERS[dtype], weights.data_ptr())
    native.check(error, "dequantize", f"weights {list(packed.shape)}")
    return weights


def dequantized_layer(
    packed: PackedInt4, bias: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """x W^T + bias by torch, the weights dequantized at every call: [..., K] -> [..., N].

    For many tokens, where arithmetic bounds: what one call reads of memory is 4-bit weights.
    bias [N] and x are of one of NUMBERS' types. Raises ValueError for another bias.
    """
    if bias.shape != packed.shape[:1] or bias.dtype not in NUMBERS:
        raise ValueError(
            f"[layer] bias must be float32 or bfloat16 [N={packed.shape[0]}], "
            f"got {bias.dtype} {list(bias.shape)}"
        )

    def layer(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, dequantized(packed, bias.dtype), bias)

    return layer
