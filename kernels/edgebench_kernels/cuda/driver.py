"""Loads kernels on a GPU and launches them on torch's stream, so that CUDA graphs capture them.

    gpu = Gpu.open()
    gemv = gpu.load("w4a16_gemv", {"EB_GROUP": 128, "EB_TOKENS": 1, ...})
    gemv.launch(grid=(256, 1, 1), threads=256, arguments=(x.data_ptr(), ..., n, k))

Kernels are loaded before a capture begins. Every failure is an error in words: nothing is ever run
in another kernel's place. Errors are tested with a fake driver, the calls with a fake libcuda.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from edgebench_kernels.cuda import driver_errors
from edgebench_kernels.cuda.architectures import ARCHITECTURES, architecture_of
from edgebench_kernels.cuda.compile import nvrtc_version
from edgebench_kernels.cuda.driver_calls import (
    SUCCESS,
    DriverCalls,
    GpuProcess,
    LaunchShape,
    Tiles,
    connect,
)
from edgebench_kernels.cuda.errors import CudaUnavailable, GpuBusy, LaunchError
from edgebench_kernels.cuda.kernels import KERNELS, PARAMETERS, build

OLDEST_CUDA = 12  # what cuda-bindings still supports
PLAIN_SHARED_BYTES = 48 << 10  # of a block, without the attribute
MAX_GRID = (2**31 - 1, 65535, 65535)  # Programming Guide, "Technical Specifications"
MAX_THREADS = 1024
MAX_CLUSTER = 8  # Programming Guide, "Thread Block Clusters": the portable size
CLUSTER_CAPABILITY = (9, 0)
WARP = 32


class Gpu:
    """One GPU with the kernels that were loaded on it."""

    def __init__(self, calls: DriverCalls, device: int, name: str, arch: str) -> None:
        self.device = device
        self.name = name
        self.arch = arch
        self._calls = calls
        self._loaded: dict[tuple[str, tuple[tuple[str, int], ...]], LoadedKernel] = {}
        self._threads = threading.local()

    @classmethod
    def open(cls, device: int = 0, calls: DriverCalls | None = None) -> Gpu:
        """The GPU `device`; CudaUnavailable, with the fix, where it cannot run our kernels."""
        calls = connect() if calls is None else calls
        _check(calls, calls.initialize(), "cuda")
        code, version = calls.version()
        _check(calls, code, "cuda")
        if version[0] < OLDEST_CUDA:
            raise _old_driver(version, f"CUDA {OLDEST_CUDA}.0", OLDEST_CUDA)
        code, count = calls.count()
        _check(calls, code if code or count else driver_errors.NO_DEVICE, "cuda")
        if not 0 <= device < count:
            raise CudaUnavailable(
                f"[cuda] expected a GPU out of 0..{count - 1}, got {device}; CUDA_VISIBLE_DEVICES "
                f"is {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}"
            )
        code, name = calls.name(device)
        _check(calls, code, "cuda")
        code, capability = calls.capability(device)
        _check(calls, code, "cuda")
        gpu = cls(calls, device, name, architecture_of(capability, name))
        gpu.make_current()
        return gpu

    def make_current(self) -> None:
        """Bind torch's context of this GPU to the calling thread, once per thread."""
        if not getattr(self._threads, "is_bound", False):
            self.check(self._calls.make_current(self.device), "cuda")
            self._threads.is_bound = True

    def load(self, name: str, macros: Mapping[str, int]) -> LoadedKernel:
        """The kernel of KERNELS, compiled for this GPU and loaded; the second time at once.

        Raises CompileError, CudaMemoryError, or CudaUnavailable where the driver is too old for it.
        """
        key = (name, tuple(sorted(macros.items())))
        if key not in self._loaded:
            self.make_current()
            code = build(name, self.arch, macros).code
            result, module = self._calls.load(code)
            if result in driver_errors.LOAD_REFUSALS:
                self._refuse_old_driver(name)
            self.check(result, name)
            result, function = self._calls.function(module, name)
            self.check(result, name)
            self._loaded[key] = LoadedKernel(self, self._calls, name, function, module)
        return self._loaded[key]

    def tensor_map(self, tiles: Tiles) -> bytes:
        """The argument of a kernel that copies a matrix by tiles; LaunchError for a wrong one."""
        self.make_current()
        code, made = self._calls.tensor_map(tiles)
        self.check(code, "tensor map")
        return made

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total memory."""
        self.make_current()
        code, free, total = self._calls.memory()
        self.check(code, "cuda")
        return free, total

    def other_processes(self) -> tuple[GpuProcess, ...] | None:
        """Who else computes on this GPU; None where NVML does not say.

        In a container NVML may name processes by the host's numbers: one that is not ours by number
        is then taken for us.
        """
        listed = self._calls.processes(self.device)
        if listed is None:
            return None
        others = tuple(row for row in listed if row.pid != os.getpid())
        return others if len(others) < len(listed) else others[1:]

    def require_sole_use(self) -> None:
        """Raise GpuBusy while another process computes on this GPU: times would be wrong."""
        if others := self.other_processes():
            raise GpuBusy(
                f"[cuda] expected to be alone on {self.name}, found {_listed(others)}; end it, or "
                "choose another GPU with CUDA_VISIBLE_DEVICES"
            )

    def check(self, code: int, where: str) -> None:
        """Raise what a result code stands for, with what is known about this GPU."""
        if code != SUCCESS:
            _check(self._calls, code, where, self._context(code))

    def _context(self, code: int) -> str:
        if code != driver_errors.OUT_OF_MEMORY:
            return self.name
        result, free, total = self._calls.memory()
        parts = [self.name]
        if result == SUCCESS:
            parts.append(f"{_gigabytes(free)} of {_gigabytes(total)} are free")
        if others := self.other_processes():
            parts.append(f"also there: {_listed(others)}")
        return ", ".join(parts)

    def _refuse_old_driver(self, where: str) -> None:
        """Raise that the driver is too old, where it is older than the compiler."""
        _, version = self._calls.version()
        compiler = nvrtc_version()
        major, minor = (int(part) for part in compiler.split()[0].split("."))
        if version < (major, minor):
            raise _old_driver(version, f"[{where}] code of NVRTC {compiler}", major)


class LoadedKernel:
    """A kernel on a GPU, ready to be launched."""

    def __init__(self, gpu: Gpu, calls: DriverCalls, name: str, function: Any, module: Any) -> None:
        self.name = name
        self._gpu = gpu
        self._calls = calls
        self._function = function
        self._module = module  # lives as long as its kernel
        self._shared_bytes = PLAIN_SHARED_BYTES
        self._parameters = KERNELS[name].parameters
        codes = [PARAMETERS[kind] for kind in self._parameters]
        self._packer = struct.Struct("@" + "".join(codes))
        ends = [struct.calcsize("@" + "".join(codes[: i + 1])) for i in range(len(codes))]
        self._offsets = [
            end - struct.calcsize(f"@{code}") for end, code in zip(ends, codes, strict=True)
        ]

    def launch(  # noqa: PLR0913 (keywords with defaults)
        self,
        *,
        grid: tuple[int, int, int],
        threads: int,
        arguments: Sequence[int | float | bytes],
        shared_bytes: int = 0,
        stream: int | None = None,
        overlap: bool = False,
        cluster: int = 1,
    ) -> None:
        """Start the kernel on torch's current stream, or on the stream of that handle.

        arguments: numbers, `data_ptr()`s and tensor maps in the kernel's order.   overlap:
        programmatic dependent launch (sm_90).   cluster: blocks along z that run at the same time
        (sm_90).
        Raises LaunchError and its like; what fails while the kernel runs is raised by whichever
        call comes next.
        """
        self._check_sizes(grid, threads, shared_bytes)
        self._check_cluster(grid, cluster)
        self._gpu.make_current()
        if shared_bytes > self._shared_bytes:
            code = self._calls.allow_shared_bytes(self._function, shared_bytes)
            self._gpu.check(code, self.name)
            self._shared_bytes = shared_bytes
        values = ctypes.create_string_buffer(self._packed(arguments), self._packer.size)
        base = ctypes.addressof(values)
        pointers = (ctypes.c_void_p * len(self._offsets))(*[base + at for at in self._offsets])
        stream = current_stream(self._gpu.device) if stream is None else stream
        shape = LaunchShape(grid, threads, shared_bytes, stream, overlap, cluster)
        code = self._calls.launch(self._function, shape, ctypes.addressof(pointers))
        self._gpu.check(code, self.name)

    def _packed(self, arguments: Sequence[int | float | bytes]) -> bytes:
        """The arguments as the kernel reads them."""
        try:
            return self._packer.pack(*arguments)
        except struct.error as err:
            raise LaunchError(
                f"[{self.name}] expected {', '.join(self._parameters)}, got {tuple(arguments)}: "
                f"{err}; please report it"
            ) from err

    def _check_sizes(self, grid: tuple[int, int, int], threads: int, shared_bytes: int) -> None:
        if not all(1 <= blocks <= most for blocks, most in zip(grid, MAX_GRID, strict=True)):
            raise LaunchError(
                f"[{self.name}] expected a grid of 1 to {MAX_GRID} blocks, got {grid}; use a "
                "smaller batch"
            )
        if not (0 < threads <= MAX_THREADS and threads % WARP == 0):
            raise LaunchError(
                f"[{self.name}] expected whole warps of at most {MAX_THREADS} threads, got "
                f"{threads}; please report it"
            )
        most_bytes = ARCHITECTURES[self._gpu.arch].shared_bytes
        if not 0 <= shared_bytes <= most_bytes:
            raise LaunchError(
                f"[{self.name}] expected at most {most_bytes} bytes of shared memory on "
                f"{self._gpu.arch}, got {shared_bytes}; please report it"
            )

    def _check_cluster(self, grid: tuple[int, int, int], cluster: int) -> None:
        can_cluster = ARCHITECTURES[self._gpu.arch].capability >= CLUSTER_CAPABILITY
        most = MAX_CLUSTER if can_cluster else 1
        if not (1 <= cluster <= most and grid[2] % cluster == 0):
            raise LaunchError(
                f"[{self.name}] expected clusters of at most {most} blocks on {self._gpu.arch}, "
                f"which divide {grid[2]}, got {cluster}; please report it"
            )


def current_stream(device: int) -> int:
    """The handle of torch's current stream."""
    import torch

    return int(torch.cuda.current_stream(device).cuda_stream)


def _check(calls: DriverCalls, code: int, where: str, context: str = "") -> None:
    if code != SUCCESS:
        raise driver_errors.error(code, calls.code_name(code), where, context)


def _old_driver(version: tuple[int, int], needed: str, major: int) -> CudaUnavailable:
    newest = driver_errors.DRIVER_OF_CUDA.get(major)
    return CudaUnavailable(
        f"[cuda] the NVIDIA driver knows CUDA {version[0]}.{version[1]}, too old for {needed}; "
        f"update the driver{f' to {newest} or newer' if newest else ''}, or install an older "
        f"compiler: pip install 'cuda-core[cu{max(version[0], OLDEST_CUDA)}]'"
    )


def _listed(processes: Sequence[GpuProcess]) -> str:
    return ", ".join(
        f"process {row.pid}" + (f" with {_gigabytes(row.memory_bytes)}" if row.memory_bytes else "")
        for row in processes
    )


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
