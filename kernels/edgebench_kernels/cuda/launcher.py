"""Runs planned kernels on torch's tensors: what stands between the engine and the driver.

A `Launcher` is all that linears and engines know of a GPU. Tests put one in this place whose
kernels are emulated on the host, so that the engine's own code runs without a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.driver import Gpu, LoadedKernel
from edgebench_kernels.cuda.driver_calls import Tiles
from edgebench_kernels.cuda.errors import CudaMemoryError, CudaUnavailable
from edgebench_kernels.cuda.geometry import Launch, Macros
from edgebench_kernels.cuda.scratch import Scratch

Argument: TypeAlias = Tensor | int | float | None
"""A kernel's argument: a tensor stands for its address, None for a null pointer."""

OVERLAP_CAPABILITY = (9, 0)
"""The first compute capability with programmatic dependent launch."""


class Launcher(Protocol):
    """A GPU, as linears and engines see it."""

    device: torch.device
    arch: str
    multiprocessors: int
    shared_bytes: int
    """That a block may have."""
    can_overlap: bool
    """Whether a kernel may begin before the one before it has ended."""
    scratch: Scratch

    def run(self, plan: Launch, arguments: Sequence[Argument], *, overlap: bool = False) -> None:
        """Start a kernel behind what was started before.

        overlap: where the GPU can, it may begin early: it waits for the kernel before it by itself.
        """
        ...

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """Call `step` once, and return what repeats it, and keeps its memory: one CUDA graph."""
        ...

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total memory."""
        ...


class GpuLauncher:
    """The launcher of a real GPU: kernels through the driver, on torch's current stream."""

    def __init__(self, gpu: Gpu, multiprocessors: int) -> None:
        self.gpu = gpu
        self.device = torch.device("cuda", gpu.device)
        self.arch = gpu.arch
        self.multiprocessors = multiprocessors
        self.shared_bytes = ARCHITECTURES[gpu.arch].shared_bytes
        self.can_overlap = ARCHITECTURES[gpu.arch].capability >= OVERLAP_CAPABILITY
        self.scratch = Scratch(self.device)
        self._loaded: dict[tuple[str, Macros], LoadedKernel] = {}
        self._tensor_map = functools.lru_cache(maxsize=1024)(gpu.tensor_map)

    @classmethod
    def open(cls, index: int = 0) -> GpuLauncher:
        """The GPU of that number; CudaUnavailable, with the fix, where it or torch cannot do it."""
        gpu = Gpu.open(index)
        require_torch(gpu.name)
        return cls(gpu, torch.cuda.get_device_properties(index).multi_processor_count)

    def run(self, plan: Launch, arguments: Sequence[Argument], *, overlap: bool = False) -> None:
        """See Launcher; CompileError, CudaMemoryError or LaunchError where the kernel fails."""
        key = plan.kernel, plan.macros
        kernel = self._loaded.get(key)
        if kernel is None:
            kernel = self._loaded[key] = self.gpu.load(plan.kernel, dict(plan.macros))
        kernel.launch(
            grid=plan.grid,
            threads=plan.threads,
            shared_bytes=plan.shared_bytes,
            arguments=self._values(plan, arguments),
            overlap=overlap and self.can_overlap,
            cluster=plan.cluster,
        )

    def _values(self, plan: Launch, arguments: Sequence[Argument]) -> list[int | float | bytes]:
        values: list[int | float | bytes] = [self._number(one) for one in arguments]
        first = arguments[0]
        if plan.box_rows and isinstance(first, Tensor):
            tiles = Tiles(first.data_ptr(), (first.shape[0], first.shape[1]), plan.box_rows)
            values[0] = self._tensor_map(tiles)
        return values

    def _number(self, argument: Argument) -> int | float:
        if argument is None or isinstance(argument, int | float):
            return argument or 0
        if argument.device != self.device:
            raise ValueError(f"[cuda] expected a tensor on {self.device}, got {argument.device}")
        return int(argument.data_ptr())

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """See Launcher. The first call loads kernels, which a capture forbids."""
        with torch.cuda.device(self.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on with what they do: meters never touch this GPU's streams.
            with torch.cuda.graph(
                graph, pool=_graph_pool(), stream=stream, capture_error_mode="thread_local"
            ):
                step()

        return _Replay(graph.replay, step)

    def memory_bytes(self) -> tuple[int, int]:
        """See Launcher."""
        return self.gpu.memory_bytes()


@dataclass(frozen=True, slots=True)
class _Replay:
    """Repeats a graph. Keeps the step that was captured, and so the memory that the graph uses."""

    again: Callable[[], None]
    step: Callable[[], None]

    def __call__(self) -> None:
        self.again()


def launcher_of(device: str | torch.device) -> GpuLauncher:
    """The launcher of a torch device, opened once; ValueError unless it is a GPU."""
    place = torch.device(device)
    if place.type != "cuda":
        raise ValueError(f"[cuda] device must be cpu or cuda, got {device}")
    return _opened(place.index or 0)


@functools.cache
def _opened(index: int) -> GpuLauncher:
    return GpuLauncher.open(index)


def require_torch(gpu_name: str) -> None:
    """Raise CudaUnavailable where torch cannot use the GPU that the driver has."""
    if torch.version.cuda is None:
        raise CudaUnavailable(
            f"[cuda] expected a torch built for CUDA, got {torch.__version__}; install one: "
            "scripts/install.sh picks the build, or see https://pytorch.org/get-started/locally"
        )
    if not torch.cuda.is_available():
        raise CudaUnavailable(
            f"[cuda] the driver has {gpu_name}, but torch {torch.__version__} for CUDA "
            f"{torch.version.cuda} cannot use it; update the driver, or install an older torch"
        )


@contextmanager
def memory_errors(launcher: Launcher, where: str) -> Iterator[None]:
    """Say torch's running out of memory as every other of our errors."""
    try:
        yield
    except torch.OutOfMemoryError as err:
        free, total = launcher.memory_bytes()
        raise CudaMemoryError(
            f"[{where}] the GPU is out of memory ({free / 1e9:.1f} of {total / 1e9:.1f} GB are "
            "free); end other processes on the GPU, or use a smaller model, batch or context"
        ) from err


@functools.cache
def _graph_pool() -> tuple[int, int]:
    """The memory that all graphs share: none of them runs beside another."""
    return torch.cuda.graph_pool_handle()
