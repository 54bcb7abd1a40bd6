"""The linears of a GPU engine: fp16 by cuBLAS, INT4 by our kernels, behind one interface."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgebench_kernels.cuda import paths
from edgebench_kernels.cuda.launcher import Launcher, memory_errors
from edgebench_kernels.cuda.linear import GpuInt4, Product
from edgebench_kernels.cuda.products import swiglu
from edgebench_kernels.engine.arithmetic import PathChoice


class Fp16Linear:
    """The reference's linear: torch's product of fp16 weights, given as parts with the same K."""

    logits_dtype = torch.float16

    def __init__(self, launcher: Launcher, parts: Sequence[Tensor]) -> None:
        self.shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])
        self._launcher = launcher
        with memory_errors(launcher, "engine"):
            placed = [part.to(launcher.device) for part in parts]
            self._weight = placed[0] if len(placed) == 1 else torch.cat(placed)

    def multiply(self, x: Tensor, y: Tensor) -> None:
        """See GpuLinear."""
        torch.mm(x, self._weight.T, out=y)

    def swiglu(self, x: Tensor, y: Tensor) -> None:
        """See GpuLinear."""
        gate_up = torch.empty(len(x), self.shape[0], dtype=torch.float16, device=x.device)
        self.multiply(x, gate_up)
        swiglu(self._launcher, gate_up, y)

    def fused(self, rows: int) -> None:
        """See GpuLinear: cuBLAS does not fuse."""

    def weight_bytes_at(self, rows: int) -> int:
        """See GpuLinear."""
        return self._weight.nbytes

    def describe(self) -> str:
        """See GpuLinear."""
        return f"fp16/{self._launcher.arch} (cublas)"


class Int4Path:
    """Packed weights seen through a choice of paths; several of these may share the weights."""

    logits_dtype = torch.float32

    def __init__(self, packed: GpuInt4, choice: PathChoice) -> None:
        for path in (choice.single, choice.many):
            paths.choices(path, packed.launcher.arch)  # ValueError for one there is not
        self.shape = packed.shape
        self._packed, self._choice = packed, choice

    def multiply(self, x: Tensor, y: Tensor) -> None:
        """See GpuLinear."""
        path = self._choice.for_rows(len(x))
        self._packed.multiply(path, Product(x=x, y=y, overlap=True))

    def swiglu(self, x: Tensor, y: Tensor) -> None:
        """See GpuLinear; the weights were packed in pairs."""
        self.multiply(x, y)

    def fused(self, rows: int) -> GpuInt4 | None:
        """See GpuLinear."""
        path, arch = self._choice.for_rows(rows), self._packed.launcher.arch
        return self._packed if paths.kernel_for(path, arch, rows) == paths.GEMV else None

    def weight_bytes_at(self, rows: int) -> int:
        """See GpuLinear."""
        return self._packed.bytes_at(self._choice.for_rows(rows), rows)

    def describe(self) -> str:
        """See GpuLinear."""
        choice, arch = self._choice, self._packed.launcher.arch
        if choice.single == choice.many:
            return paths.describe(choice.single, arch)
        return f"1: {paths.describe(choice.single, arch)}, >1: {paths.describe(choice.many, arch)}"
