"""What puts a GPU in the emulator's place, on a driver and a memory that are fakes."""

from __future__ import annotations

import ctypes
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebench_kernels.cuda.driver_calls import LaunchShape

from . import gpu_device, on_gpu
from .emulation import EMULATOR, EmulationError, Late, Launch, SameAs, Tiled, Variant
from .fake_driver import FakeCalls
from .gpu_device import Device, NotHere

KERNEL = Variant(file="embed.cu", kernel="embed")
X = np.arange(6, dtype=np.float32)


class HostMemory:
    """Device memory on the host."""

    def __init__(self) -> None:
        self.blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.sizes: list[int] = []
        self.code = 0

    def allocate(self, size_bytes: int) -> int:
        block = ctypes.create_string_buffer(size_bytes)
        self.blocks[ctypes.addressof(block)] = block
        self.sizes.append(size_bytes)
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        del self.blocks[address]

    def write(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def read(self, address: int, size_bytes: int) -> bytes:
        return ctypes.string_at(address, size_bytes)

    def synchronize(self) -> int:
        return self.code


class Calls(FakeCalls):
    """A driver whose launches do something with the arguments' values."""

    kernel: Callable[..., None] = staticmethod(lambda *arguments: None)

    def launch(self, function: Any, shape: LaunchShape, arguments: int) -> int:
        code = super().launch(function, shape, arguments)
        type(self).kernel(*self.launches[-1].arguments)
        return code


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = types.SimpleNamespace(code=b"cubin")
    monkeypatch.setattr(gpu_device, "compile_file", lambda *given, **named: compiled)


def device_of(
    kernel: Callable[..., None], *parameters: str, is_exact: bool = False
) -> tuple[Device, HostMemory, Calls]:
    calls = type("Spoken", (Calls,), {"kernel": staticmethod(kernel)})(parameters=parameters)
    memory = HostMemory()
    return Device(calls, memory, is_exact=is_exact), memory, calls


def launch(*arguments: Any, shared_bytes: int = 0, variant: Variant = KERNEL) -> Launch:
    return Launch(
        variant=variant, grid=(2, 1, 1), threads=64, shared_bytes=shared_bytes, arguments=arguments
    )


def double(source: int, target: int, count: int, *rest: object) -> None:
    values = np.frombuffer(ctypes.string_at(source, 4 * count), np.float32) * 2
    ctypes.memmove(target, values.tobytes(), 4 * count)


def test_arguments_go_in_and_buffers_come_back() -> None:
    kinds = ("pointer", "pointer", "int32", "float32", "pointer")
    device, memory, calls = device_of(double, *kinds)
    empty = np.full(6, np.nan, np.float32)
    arguments = (Late(X), empty, np.int32(6), np.float32(0.5), None)
    [[x, y]] = device.run([launch(*arguments)])
    assert np.array_equal(x, X)
    assert np.array_equal(y, 2 * X)
    assert np.isnan(empty).all(), "the caller's array stays as it was"
    assert calls.launches[-1].shape == LaunchShape((2, 1, 1), 64, 0, 0, False)
    assert calls.launches[-1].arguments[3:] == (0.5, None)
    assert not memory.blocks, "all memory is given back"


def test_clusters_are_launched() -> None:
    device, _, calls = device_of(double, "pointer", "pointer", "int32")
    device.launch(replace(launch(X, np.zeros_like(X), np.int32(6)), grid=(1, 1, 4), cluster=4))
    assert calls.launches[-1].shape.cluster == 4


def test_a_tensor_map_is_made_of_its_buffer() -> None:
    device, _, calls = device_of(lambda made, y: None, "tensor_map", "pointer")
    halfs = np.zeros((3, 8), np.float16)
    [[x, _]] = device.run([launch(Tiled(Late(halfs), halfs.shape, 16), X)])
    assert np.array_equal(x, halfs)
    [tiles] = calls.tiles
    assert (tiles.shape, tiles.box_rows) == ((3, 8), 16)
    assert tiles.address
    assert calls.launches[-1].arguments[0] == b"map 1"


def test_the_same_buffer_twice() -> None:
    device, _, _ = device_of(double, "pointer", "pointer", "int32")
    [[x]] = device.run([launch(X, SameAs(0), np.int32(6))])
    assert np.array_equal(x, 2 * X)


@pytest.mark.parametrize(("offset", "side"), [(-1, "before"), (X.nbytes, "behind")])
def test_a_byte_outside_is_found(offset: int, side: str) -> None:
    def outside(address: int) -> None:
        ctypes.memmove(address + offset, b"\0", 1)

    device, _, _ = device_of(outside, "pointer")
    with pytest.raises(EmulationError, match=f"embed wrote {side} argument 0"):
        device.launch(launch(X))


def test_exact_allocations_have_no_guards() -> None:
    device, memory, _ = device_of(double, "pointer", "pointer", "int32", is_exact=True)
    [[_, y]] = device.run([launch(X, np.zeros_like(X), np.int32(6))])
    assert np.array_equal(y, 2 * X)
    assert memory.sizes == [X.nbytes, X.nbytes]


def test_a_fault_says_what_it_is_and_ends_the_device() -> None:
    device, memory, calls = device_of(lambda address: None, "pointer")
    memory.code = 700
    with pytest.raises(EmulationError, match="touched memory that is not its own"):
        device.launch(launch(X))
    memory.code = 0
    with pytest.raises(EmulationError, match="context was lost before"):
        device.launch(launch(X))
    assert len(calls.launches) == 1


def test_an_error_that_the_context_survives_does_not_end_the_device() -> None:
    device, _, calls = device_of(lambda address: None, "pointer")
    calls.results["launch"] = 1
    with pytest.raises(EmulationError, match="refused a size or a pointer"):
        device.launch(launch(X))
    calls.results.clear()
    device.launch(launch(X))
    assert device.lost is None


def test_much_shared_memory_is_asked_for_and_too_much_is_not_here() -> None:
    device, _, calls = device_of(lambda address: None, "pointer")
    device.launch(launch(X, shared_bytes=48 << 10))
    assert calls.shared_bytes == []
    device.launch(launch(X, shared_bytes=200 << 10))
    assert calls.shared_bytes == [200 << 10]
    with pytest.raises(NotHere, match="shared memory"):
        device.launch(launch(X, shared_bytes=228 << 10))


@pytest.mark.parametrize(
    ("file", "kernel"),
    [
        ("w4a16_wgmma.cu", "w4a16_wgmma"),
        ("w4a16_multicast.cu", "w4a16_multicast"),
        (str(EMULATOR / "toys_bulk.cu"), "toy_bulk"),
    ],
)
def test_hoppers_kernels_are_not_asked_of_other_gpus(file: str, kernel: str) -> None:
    calls = FakeCalls(gpu_capability=(8, 7))
    with pytest.raises(NotHere, match=f"{kernel} is Hopper's, this is sm_87"):
        Device(calls, HostMemory()).launch(launch(X, variant=Variant(file=file, kernel=kernel)))


# ------------------------------------------------------------------------------------------ plugin


class Counting:
    """A device that answers with the number of its launch."""

    arch, lost = "sm_90a", None

    def __init__(self) -> None:
        self.count = 0
        self.compiled: list[Variant] = []

    def compile(self, variants: list[Variant]) -> None:
        self.compiled += variants

    def launch(self, one: Launch) -> list[np.ndarray]:
        self.count += 1
        return [np.array(self.count)]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> on_gpu.OnGpu:
    monkeypatch.setattr(on_gpu.OnGpu, "device", Counting(), raising=False)
    return on_gpu.OnGpu(tmp_path, [KERNEL])


def test_schedules_are_launches_unless_one_is_enough(
    program: on_gpu.OnGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = [launch(X), launch(X), launch(X.copy())]
    assert [int(arrays[0]) for arrays in program.run(launches)] == [1, 2, 3]
    monkeypatch.setattr(on_gpu.OnGpu, "is_once", True)
    assert [int(arrays[0]) for arrays in program.run(launches)] == [4, 4, 5]


def test_planted_bugs_are_skipped(tmp_path: Path, program: on_gpu.OnGpu) -> None:
    planted = Variant(file="embed.cu", kernel="embed", patches=(("embed.cu", "a", "b"),))
    with pytest.raises(pytest.skip.Exception, match="planted bugs"):
        program.run([launch(X, variant=planted)])
    with pytest.raises(pytest.skip.Exception, match="planted bugs"):
        on_gpu.OnGpu(tmp_path, [planted])
    assert on_gpu.OnGpu(tmp_path, [planted, KERNEL]).device.compiled == [KERNEL, KERNEL]


def test_what_an_earlier_run_began_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "results"
    path.write_text('{"test": "a::x", "event": "begin"}\n{"test": "a::y", "ev')
    assert on_gpu.results_of(path) == [{"test": "a::x", "event": "begin"}]
    asked = {"--gpu-results": path}
    config = types.SimpleNamespace(
        getoption=asked.__getitem__,
        hook=types.SimpleNamespace(pytest_deselected=lambda items: None),
    )
    items = [
        types.SimpleNamespace(nodeid=name, get_closest_marker=lambda mark, m=marker: m)
        for name, marker in (("a::x", None), ("a::y", None), ("a::z", "nvrtc"))
    ]
    on_gpu.pytest_collection_modifyitems(config, items)  # type: ignore[arg-type]
    assert [item.nodeid for item in items] == ["a::y"]
