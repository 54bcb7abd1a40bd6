"""The CPU as a target: native kernels on threads, ceilings of its own instructions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from edgebench.errors import DeviceUnavailable, SpecError
from edgebench.estimate import memory_shortage
from edgebench.images.prepared import PreparedImages
from edgebench.kernel_engine import WorkloadEngines
from edgebench.memory import peak_memory_bytes, reset_peak
from edgebench.prepared import PreparedWorkload
from edgebench.prepared_text import require_text
from edgebench.record import CeilingName, Kernel, KernelTuning
from edgebench.system import SystemDescription

if TYPE_CHECKING:
    from edgebench_kernels.ceilings import CeilingSample


class CpuTarget:
    """See target.Target."""

    ceilings: tuple[CeilingName, ...] = ("read_bandwidth", "int8", "bf16", "fp32")

    def errors(self) -> AbstractContextManager[None]:
        """See Target: the CPU's kernels raise only what is translated where it is met."""
        return nullcontext()

    def prepare(
        self, threads: int, affinity: Sequence[int] | None, begun: KernelTuning | None
    ) -> KernelTuning:
        """See Target."""
        import torch

        from edgebench.kernel_tuning import apply_tuning, tune_kernels
        from edgebench_kernels import native

        torch.set_num_threads(threads)
        try:
            native.set_threads(threads)
            native.set_affinity(affinity or ())
            tuning = begun or tune_kernels()
            apply_tuning(tuning)
            return tuning
        except native.NativeLibraryMissing as error:
            raise DeviceUnavailable(str(error)) from error
        except ValueError as error:
            raise SpecError(str(error)) from error

    def multiprocessors(self) -> None:
        """See Target."""

    def described(self, system: SystemDescription) -> SystemDescription:
        """See Target."""
        return system

    def cache_bytes(self, system: SystemDescription) -> int | None:
        """See Target."""
        return system.cpu.last_level_cache_bytes

    def memory_shortage(self, weights_bytes: int, system: SystemDescription) -> str | None:
        """See Target."""
        return memory_shortage(weights_bytes, system)

    def engines(self, prepared: PreparedWorkload, kernels: Sequence[Kernel]) -> WorkloadEngines:
        """See Target."""
        from edgebench.engines_cpu import CpuEngines
        from edgebench.images.engines import CpuImageEngines

        if isinstance(prepared, PreparedImages):
            return CpuImageEngines(prepared, kernels)
        return CpuEngines(require_text(prepared, "cpu"), kernels)

    def measure_ceiling(self, name: CeilingName, threads: int) -> CeilingSample | None:
        """See Target."""
        from edgebench_kernels import ceilings, native

        try:
            return ceilings.measure(name, threads)
        except native.Unavailable:
            return None

    def reset_peak(self) -> None:
        """See Target."""
        reset_peak()

    def peak_memory_bytes(self) -> int | None:
        """See Target."""
        return peak_memory_bytes()
