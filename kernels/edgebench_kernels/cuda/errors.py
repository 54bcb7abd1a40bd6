"""The errors of the GPU half; each text names the fix.

    CudaError
    ├── CudaUnavailable      this machine or this installation cannot run the kernels
    │   └── GpuBusy          another process is on the GPU
    ├── CompileError         NVRTC refused a source, or its code lacks what it must hold
    ├── CudaMemoryError      the GPU's memory is used up (a MemoryError, too)
    └── LaunchError          a kernel did not start, or did not finish

Text = ``[where] what was expected, what came, what to do``. None of them is ever answered by
running something else: a kernel that fails, fails.
"""

from __future__ import annotations


class CudaError(RuntimeError):
    """The root: something between a kernel's source and its result went wrong."""


class CudaUnavailable(CudaError):
    """This machine or this installation cannot run the kernels; the text names the fix."""


class GpuBusy(CudaUnavailable):
    """Another process is on the GPU: times would be wrong, or the GPU refuses us."""


class CompileError(CudaError):
    """NVRTC refused a source, or the code lacks the instructions that it must hold."""


class CudaMemoryError(CudaError, MemoryError):
    """The GPU's memory is used up."""


class LaunchError(CudaError):
    """A kernel did not start, or did not finish."""
