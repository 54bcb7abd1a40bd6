"""A CUDA driver that remembers what it was asked, and fails where it is told to."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edgebench_kernels.cuda.driver_calls import GpuProcess, LaunchShape, Tiles

C_TYPES = {
    "pointer": ctypes.c_void_p,
    "int32": ctypes.c_int32,
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "tensor_map": ctypes.c_char * 128,
}


class Launched(NamedTuple):
    """A launch as the driver saw it."""

    function: str
    shape: LaunchShape
    arguments: tuple[Any, ...]


@dataclass
class FakeCalls:
    """`DriverCalls` without a driver. `results`: by call, the code that it returns instead of 0.

    parameters: types of the kernels' arguments, to read them at the address given.
    """

    results: dict[str, int] = field(default_factory=dict)
    cuda_version: tuple[int, int] = (13, 0)
    gpus: int = 1
    gpu_capability: tuple[int, int] = (9, 0)
    listed: tuple[GpuProcess, ...] | None = ()
    parameters: tuple[str, ...] = ()
    asked: Counter[str] = field(default_factory=Counter)
    launches: list[Launched] = field(default_factory=list)
    shared_bytes: list[int] = field(default_factory=list)
    loaded: list[bytes] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    tiles: list[Tiles] = field(default_factory=list)

    def _code(self, call: str) -> int:
        self.asked[call] += 1
        return self.results.get(call, 0)

    def initialize(self) -> int:
        return self._code("initialize")

    def version(self) -> tuple[int, tuple[int, int]]:
        return self._code("version"), self.cuda_version

    def count(self) -> tuple[int, int]:
        return self._code("count"), self.gpus

    def name(self, device: int) -> tuple[int, str]:
        return self._code("name"), f"Fake GPU {device}"

    def capability(self, device: int) -> tuple[int, tuple[int, int]]:
        return self._code("capability"), self.gpu_capability

    def make_current(self, device: int) -> int:
        self.threads.append(threading.get_ident())
        return self._code("make_current")

    def load(self, code: bytes) -> tuple[int, Any]:
        self.loaded.append(code)
        return self._code("load"), f"module {len(self.loaded)}"

    def function(self, module: Any, entry: str) -> tuple[int, Any]:
        return self._code("function"), f"{module}: {entry}"

    def allow_shared_bytes(self, function: Any, size_bytes: int) -> int:
        self.shared_bytes.append(size_bytes)
        return self._code("allow_shared_bytes")

    def tensor_map(self, tiles: Tiles) -> tuple[int, bytes]:
        """One that says which it is."""
        self.tiles.append(tiles)
        return self._code("tensor_map"), f"map {len(self.tiles)}".encode().ljust(128, b"\0")

    def launch(self, function: Any, shape: LaunchShape, arguments: int) -> int:
        addresses = (ctypes.c_void_p * len(self.parameters)).from_address(arguments)
        values = tuple(
            C_TYPES[kind].from_address(address or 0).value
            for kind, address in zip(self.parameters, addresses, strict=True)
        )
        self.launches.append(Launched(function, shape, values))
        return self._code("launch")

    def memory(self) -> tuple[int, int, int]:
        return self._code("memory"), 1_500_000_000, 141_000_000_000

    def processes(self, device: int) -> tuple[GpuProcess, ...] | None:
        return self.listed

    def code_name(self, code: int) -> str:
        return f"CUDA_ERROR_{code}"


def ours(memory_bytes: int = 1) -> GpuProcess:
    """This process, as NVML lists it."""
    return GpuProcess(os.getpid(), memory_bytes)
