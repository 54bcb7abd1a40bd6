"""Launches of the emulation tests on a real GPU, through the driver, without torch.

Buffers lie between guards that a kernel must leave alone; an exact device gives each an allocation
of exactly its size instead, for compute-sanitizer to watch.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import driver_errors
from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.compile import compile_file
from edgebench_kernels.cuda.driver import PLAIN_SHARED_BYTES, Gpu
from edgebench_kernels.cuda.driver_calls import DriverCalls, LaunchShape, Tiles, connect
from edgebench_kernels.cuda.errors import CompileError

from .emulation import (
    SOURCES,
    Argument,
    EmulationError,
    Launch,
    SameAs,
    Tiled,
    Variant,
    content_of,
)

GUARD_BYTES = 256
GUARD = 0xA5
COMPILERS = 4
HOPPER = ("wgmma", "cluster", "multicast", "bulk")
"""What files or kernels are called that need one."""

LOST = (700, 702, 715, 716, 717, 718, 719)
"""Result codes after which the process can do nothing more on the GPU."""


class NotHere(Exception):
    """This GPU cannot run a launch, and need not: the text says why."""


class Memory(Protocol):
    """Device memory by address."""

    def allocate(self, size_bytes: int) -> int: ...
    def free(self, address: int) -> None: ...
    def write(self, address: int, data: bytes) -> None: ...
    def read(self, address: int, size_bytes: int) -> bytes: ...
    def synchronize(self) -> int: ...


class DriverMemory:
    """Memory through cuda-bindings."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver = driver

    def allocate(self, size_bytes: int) -> int:
        code, address = self._driver.cuMemAlloc(size_bytes)
        if int(code):
            raise EmulationError(f"[gpu] {size_bytes} bytes: {code}")
        return int(address)

    def free(self, address: int) -> None:
        self._driver.cuMemFree(address)

    def write(self, address: int, data: bytes) -> None:
        source = np.frombuffer(data, np.uint8)
        (code,) = self._driver.cuMemcpyHtoD(address, source.ctypes.data, len(data))
        if int(code):
            raise EmulationError(f"[gpu] copy to the GPU: {code}")

    def read(self, address: int, size_bytes: int) -> bytes:
        data = bytearray(size_bytes)
        place = (ctypes.c_char * size_bytes).from_buffer(data)
        (code,) = self._driver.cuMemcpyDtoH(ctypes.addressof(place), address, size_bytes)
        if int(code):
            raise EmulationError(f"[gpu] copy from the GPU: {code}")
        return bytes(data)

    def synchronize(self) -> int:
        (code,) = self._driver.cuCtxSynchronize()
        return int(code)


class Device:
    """The GPU of this process, with the kernels that were loaded on it."""

    def __init__(self, calls: DriverCalls, memory: Memory, *, is_exact: bool = False) -> None:
        self.arch = Gpu.open(calls=calls).arch
        self.is_exact = is_exact
        self.lost: str | None = None
        self._calls, self._memory = calls, memory
        self._functions: dict[Variant, Any] = {}
        self._modules: list[Any] = []

    @classmethod
    def open(cls, *, is_exact: bool = False) -> Device:
        """The first GPU; CudaUnavailable, with the fix, where there is none."""
        return cls(connect(), DriverMemory(), is_exact=is_exact)

    def function(self, variant: Variant) -> Any:
        """The kernel, compiled and loaded; CompileError, NotHere."""
        if variant not in self._functions:
            path = _path(variant)
            name = f"{path.name} {variant.kernel}"
            if any(word in name for word in HOPPER) and self.arch != "sm_90a":
                raise NotHere(f"{variant.kernel} is Hopper's, this is {self.arch}")
            code = compile_file(path, self.arch, dict(variant.macros), where=variant.kernel).code
            result, module = self._calls.load(code)
            self._check(result, variant.kernel)
            result, function = self._calls.function(module, variant.kernel)
            self._check(result, variant.kernel)
            self._modules.append(module)
            self._functions[variant] = function
        return self._functions[variant]

    def compile(self, variants: Sequence[Variant]) -> None:
        """Fill the cache of cubins on several CPUs; an error comes again when it is launched."""
        jobs = [(variant, self.arch) for variant in variants if variant not in self._functions]
        if len(jobs) > 1:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(COMPILERS, mp_context=context) as pool:
                list(pool.map(_compile, jobs))

    def run(self, launches: Sequence[Launch]) -> list[list[NDArray]]:
        """The buffers of each launch after it ran; EmulationError with what went wrong."""
        return [self.launch(launch) for launch in launches]

    def launch(self, launch: Launch) -> list[NDArray]:
        """The buffers after one launch."""
        if self.lost:
            raise EmulationError(f"[gpu] the context was lost before: {self.lost}")
        name, limit = launch.variant.kernel, ARCHITECTURES[self.arch].shared_bytes
        if launch.shared_bytes > limit:
            raise NotHere(f"{name} takes {launch.shared_bytes} bytes of shared memory of {limit}")
        function = self.function(launch.variant)
        if launch.shared_bytes > PLAIN_SHARED_BYTES:
            code = self._calls.allow_shared_bytes(function, launch.shared_bytes)
            self._check(code, name)
        with ExitStack() as stack:
            buffers: dict[int, _Buffer] = {}
            values = []
            for place, argument in enumerate(launch.arguments):
                array = content_of(argument)
                if isinstance(array, SameAs):
                    values.append(struct.pack("<Q", buffers[array.index].address))
                elif isinstance(array, np.ndarray):
                    buffers[place] = stack.enter_context(self._buffer(array))
                    values.append(self._pointer(argument, buffers[place].address, name))
                else:
                    values.append(bytes(8) if array is None else array.tobytes())
            self._start(function, launch, values)
            self._check(self._memory.synchronize(), name)
            return [buffer.content(name, place) for place, buffer in buffers.items()]

    def _pointer(self, argument: Argument, address: int, kernel: str) -> bytes:
        if not isinstance(argument, Tiled):
            return struct.pack("<Q", address)
        code, made = self._calls.tensor_map(Tiles(address, argument.shape, argument.box_rows))
        self._check(code, kernel)
        return made

    def _start(self, function: Any, launch: Launch, values: Sequence[bytes]) -> None:
        places = [ctypes.create_string_buffer(value, max(8, len(value))) for value in values]
        pointers = (ctypes.c_void_p * len(places))(*[ctypes.addressof(one) for one in places])
        shape = LaunchShape(
            launch.grid, launch.threads, launch.shared_bytes, 0, False, launch.cluster
        )
        code = self._calls.launch(function, shape, ctypes.addressof(pointers))
        self._check(code, launch.variant.kernel)

    @contextmanager
    def _buffer(self, array: NDArray) -> Iterator[_Buffer]:
        guard = 0 if self.is_exact else GUARD_BYTES
        base = self._memory.allocate(max(1, array.nbytes + 2 * guard))
        try:
            fill = bytes([GUARD]) * guard
            self._memory.write(base, fill + array.tobytes() + fill or b"\0")
            yield _Buffer(self._memory, base, guard, array)
        finally:
            self._memory.free(base)

    def _check(self, code: int, kernel: str) -> None:
        if code:
            error = driver_errors.error(code, self._calls.code_name(code), kernel)
            if code in LOST:
                self.lost = str(error)
            raise EmulationError(str(error))


def _path(variant: Variant) -> Path:
    path = Path(variant.file)
    return path if path.is_absolute() else SOURCES / path


def _compile(job: tuple[Variant, str]) -> None:
    variant, arch = job
    with contextlib.suppress(CompileError):
        compile_file(_path(variant), arch, dict(variant.macros), where=variant.kernel)


class _Buffer:
    def __init__(self, memory: Memory, base: int, guard: int, array: NDArray) -> None:
        self._memory, self._base, self._guard, self._array = memory, base, guard, array
        self.address = base + guard

    def content(self, kernel: str, place: int) -> NDArray:
        """The array after the launch; EmulationError where its guards were written."""
        size = self._array.nbytes
        data = self._memory.read(self._base, max(1, size + 2 * self._guard))
        for side, part in (
            ("before", data[: self._guard]),
            ("behind", data[len(data) - self._guard :]),
        ):
            if self._guard and part != bytes([GUARD]) * self._guard:
                raise EmulationError(f"[gpu] {kernel} wrote {side} argument {place}")
        flat = np.frombuffer(data[self._guard : self._guard + size], self._array.dtype)
        return flat.reshape(self._array.shape)
