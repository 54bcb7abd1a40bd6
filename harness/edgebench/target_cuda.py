"""An NVIDIA GPU as a target: our kernels under CUDA graphs, ceilings by cuBLAS."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from edgebench.engines_cuda import CudaEngines
from edgebench.errors import DeviceUnavailable, RunFailed
from edgebench.estimate import memory_shortage
from edgebench.gpus import Gpu
from edgebench.prepared import PreparedWorkload
from edgebench.prepared_text import require_text
from edgebench.record import CeilingName, Kernel, KernelTuning
from edgebench.system import SystemDescription
from edgebench.units import format_bytes

if TYPE_CHECKING:
    from edgebench_kernels.ceilings import CeilingSample
    from edgebench_kernels.cuda.launcher import GpuLauncher

MEMORY_PER_WEIGHT_BYTE = 1.6
"""On the GPU: fp16 weights and embedding, 0.27 of INT4, three KV caches, activations."""


@contextmanager
def kernel_errors() -> Iterator[None]:
    """Turn the kernels' errors into the harness's: the GPU cannot be used, or the run failed."""
    from edgebench_kernels.cuda.errors import CudaError, CudaUnavailable

    try:
        yield
    except CudaUnavailable as error:
        raise DeviceUnavailable(str(error)) from error
    except CudaError as error:
        raise RunFailed(str(error)) from error


class CudaTarget:
    """See target.Target."""

    ceilings: tuple[CeilingName, ...] = ("read_bandwidth", "fp16", "int8")

    def __init__(self, launcher: GpuLauncher) -> None:
        from edgebench_kernels.cuda.ceilings import Ceilings

        self._launcher = launcher
        self._ceilings = Ceilings(launcher.device)

    @classmethod
    def open(cls) -> CudaTarget:
        """The GPU of this process, alone; DeviceUnavailable with the fix where it is not."""
        from edgebench_kernels.cuda.launcher import launcher_of

        # As NVML numbers GPUs, so that the meter reads the board that kernels run on.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        with kernel_errors():
            launcher = launcher_of("cuda")
            launcher.gpu.require_sole_use()
        return cls(launcher)

    def errors(self) -> AbstractContextManager[None]:
        """See Target."""
        return kernel_errors()

    def prepare(
        self, threads: int, affinity: Sequence[int] | None, begun: KernelTuning | None
    ) -> None:
        """See Target: GPU kernels are chosen by tables, not by timing."""
        import torch

        torch.set_num_threads(threads)

    def multiprocessors(self) -> int:
        """See Target."""
        return self._launcher.multiprocessors

    def described(self, system: SystemDescription) -> SystemDescription:
        """See Target: the L2 of the GPU that kernels execute on, which comes first."""
        name, l2_bytes = self._launcher.gpu.name, self._l2_bytes()
        named = [gpu for gpu in system.gpus if gpu.name == name][:1]
        used = (named[0] if named else Gpu(name=name)).model_copy(
            update={"l2_cache_bytes": l2_bytes}
        )
        others = [gpu for gpu in system.gpus if gpu not in named]
        return system.model_copy(update={"gpus": [used, *others]})

    def cache_bytes(self, system: SystemDescription) -> int | None:
        """See Target."""
        return system.gpus[0].l2_cache_bytes

    def memory_shortage(self, weights_bytes: int, system: SystemDescription) -> str | None:
        """See Target: the host holds the weights first, then the GPU does."""
        on_host = memory_shortage(weights_bytes, system)
        if on_host is not None:
            return on_host
        free, _ = self._launcher.memory_bytes()
        needed = int(weights_bytes * MEMORY_PER_WEIGHT_BYTE)
        if free >= needed:
            return None
        return (
            f"it needs about {format_bytes(needed)} of the GPU's memory and {format_bytes(free)} "
            "are free"
        )

    def engines(self, prepared: PreparedWorkload, kernels: Sequence[Kernel]) -> CudaEngines:
        """See Target."""
        return CudaEngines(self._launcher, require_text(prepared, "a GPU"), kernels)

    def measure_ceiling(self, name: CeilingName, threads: int) -> CeilingSample | None:
        """See Target."""
        from edgebench_kernels.cuda.launcher import memory_errors

        with memory_errors(self._launcher, "ceilings"):
            return self._ceilings.measure(name, threads)

    def reset_peak(self) -> None:
        """See Target."""
        import torch

        torch.cuda.reset_peak_memory_stats(self._launcher.device)

    def peak_memory_bytes(self) -> int:
        """See Target: what torch held; our kernels allocate nothing beside it."""
        import torch

        return int(torch.cuda.max_memory_allocated(self._launcher.device))

    def _l2_bytes(self) -> int | None:
        import torch

        size = getattr(torch.cuda.get_device_properties(self._launcher.device), "L2_cache_size", 0)
        return int(size) or None
