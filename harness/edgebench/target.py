"""Where kernels execute, as a run sees it: their engines, their ceilings, their memory.

A run opens the target of its device's backend once, and asks nothing else about CPU or GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from edgebench.devices import Backend
from edgebench.prepared import PreparedWorkload
from edgebench.record import CeilingName, Kernel, KernelTuning
from edgebench.system import SystemDescription

if TYPE_CHECKING:
    from edgebench.kernel_engine import WorkloadEngines
    from edgebench_kernels.ceilings import CeilingSample


class Target(Protocol):
    """Kernels that are ready to run."""

    ceilings: tuple[CeilingName, ...]

    def errors(self) -> AbstractContextManager[None]:
        """Inside, the kernels' own errors become the harness's, which know the exit code."""
        ...

    def prepare(
        self, threads: int, affinity: Sequence[int] | None, begun: KernelTuning | None
    ) -> KernelTuning | None:
        """Set the host's threads; tune kernels where they can be, or as a run `begun` had them.

        Raises DeviceUnavailable, or SpecError for threads and CPUs that there are not.
        """
        ...

    def multiprocessors(self) -> int | None:
        """How many multiprocessors the GPU has as the driver counts them; None on a CPU."""
        ...

    def described(self, system: SystemDescription) -> SystemDescription:
        """The machine's description, with what only the kernels' side can find out."""
        ...

    def cache_bytes(self, system: SystemDescription) -> int | None:
        """The last-level cache that the kernels' weights could stay in."""
        ...

    def memory_shortage(self, weights_bytes: int, system: SystemDescription) -> str | None:
        """Say why a model of so many fp16 bytes does not fit, else None."""
        ...

    def engines(self, prepared: PreparedWorkload, kernels: Sequence[Kernel]) -> WorkloadEngines:
        """Build the engines of a workload."""
        ...

    def measure_ceiling(self, name: CeilingName, threads: int) -> CeilingSample | None:
        """Measure one ceiling once; None where the machine has no such instruction."""
        ...

    def reset_peak(self) -> None:
        """Begin a new stretch of memory in use."""
        ...

    def peak_memory_bytes(self) -> int | None:
        """The most memory in use since then; None where the system does not say."""
        ...


def open_target(backend: Backend) -> Target:
    """Open the target of a backend; DeviceUnavailable where its kernels cannot run."""
    if backend == "cpu":
        from edgebench.target_cpu import CpuTarget

        return CpuTarget()
    from edgebench.target_cuda import CudaTarget

    return CudaTarget.open()
