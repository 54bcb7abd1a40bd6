"""Planned kernels reach the driver with their tensors' addresses; graphs; memory that runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import (  # noqa: E402
    driver,
    geometry,
    launcher,
    multicast_geometry,
)
from edgebench_kernels.cuda.compile import Cubin  # noqa: E402
from edgebench_kernels.cuda.driver import Gpu  # noqa: E402
from edgebench_kernels.cuda.driver_calls import Tiles  # noqa: E402
from edgebench_kernels.cuda.errors import CudaMemoryError, CudaUnavailable  # noqa: E402
from edgebench_kernels.cuda.geometry import Launch, Linear  # noqa: E402
from edgebench_kernels.cuda.kernels import KERNELS  # noqa: E402
from edgebench_kernels.cuda.launcher import GpuLauncher, launcher_of, memory_errors  # noqa: E402
from edgebench_kernels.cuda.scratch import Scratch  # noqa: E402
from edgebench_kernels.engine import build_int4  # noqa: E402
from edgebench_kernels.linear import Int4Linear  # noqa: E402

from . import tiny_llama  # noqa: E402
from .cases import random_tensor  # noqa: E402
from .fake_driver import FakeCalls  # noqa: E402

pytestmark = pytest.mark.torch

PLAN = geometry.repack(16, 64, 64)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str, arch: str, macros: dict[str, int]) -> Cubin:
        return Cubin(
            code=f"{name} {sorted(macros.items())}".encode(), arch=arch, log="", is_from_cache=False
        )

    monkeypatch.setattr(driver, "build", build)
    monkeypatch.setattr(driver, "current_stream", lambda device: 0x500 + device)


def launcher_with(capability: tuple[int, int]) -> tuple[GpuLauncher, FakeCalls]:
    calls = FakeCalls(parameters=KERNELS[PLAN.kernel].parameters, gpu_capability=capability)
    return GpuLauncher(Gpu.open(calls=calls), 132), calls


def test_a_launch_carries_addresses_numbers_and_nothing() -> None:
    gpu, calls = launcher_with((9, 0))
    gpu.device = CPU
    codes, scale = torch.zeros(512, dtype=torch.uint8), torch.zeros(16)
    gpu.run(PLAN, [codes, scale[4:], None, codes, 16, 64, 64, 0])
    [launched] = calls.launches
    places = codes.data_ptr(), scale.data_ptr() + 16
    assert launched.arguments == (*places, None, places[0], 16, 64, 64, 0)
    assert launched.shape == (PLAN.grid, PLAN.threads, PLAN.shared_bytes, 0x500, False, 1)
    gpu.run(PLAN, [codes, scale, None, codes, 16, 64, 64, 0])
    assert len(calls.loaded) == 1


@pytest.mark.parametrize(("capability", "can"), [((8, 7), False), ((8, 9), False), ((9, 0), True)])
def test_kernels_overlap_on_hopper_only(capability: tuple[int, int], can: bool) -> None:
    gpu, calls = launcher_with(capability)
    assert gpu.can_overlap is can
    gpu.run(PLAN, [0, 0, 0, 0, 16, 64, 64, 0], overlap=True)
    gpu.run(PLAN, [0, 0, 0, 0, 16, 64, 64, 0])
    assert [launched.shape.overlap for launched in calls.launches] == [can, False]


def test_a_plans_cluster_reaches_the_driver() -> None:
    gpu, calls = launcher_with((9, 0))
    gpu.run(replace(PLAN, grid=(1, 1, 2), cluster=2), [0, 0, 0, 0, 16, 64, 64, 0])
    assert [launched.shape.cluster for launched in calls.launches] == [2]


def test_a_kernel_of_tiles_gets_a_tensor_map() -> None:
    """Of its first argument; made once for the same place and shape."""
    plan = multicast_geometry.w4a16_multicast(Linear(m=33, n=512, k=128, group=128))
    calls = FakeCalls(parameters=KERNELS[plan.kernel].parameters)
    gpu = GpuLauncher(Gpu.open(calls=calls), 132)
    gpu.device = CPU
    x, w = torch.zeros(33, 128, dtype=torch.float16), torch.zeros(16, dtype=torch.uint8)
    for _ in range(2):
        gpu.run(plan, [x, w, None, None, w, 33, 512, 128])
    gpu.run(plan, [x[1:], w, None, None, w, 32, 512, 128])
    first, other = Tiles(x.data_ptr(), (33, 128), 64), Tiles(x[1:].data_ptr(), (32, 128), 64)
    assert calls.tiles == [first, other]
    assert [one.arguments[0] for one in calls.launches] == [b"map 1", b"map 1", b"map 2"]
    assert calls.launches[0].arguments[1:] == (w.data_ptr(), None, None, w.data_ptr(), 33, 512, 128)


def test_a_tensor_elsewhere_is_refused() -> None:
    gpu, calls = launcher_with((9, 0))
    with pytest.raises(ValueError, match="expected a tensor on cuda:0, got cpu"):
        gpu.run(PLAN, [torch.zeros(1), 0, 0, 0, 16, 64, 64, 0])
    assert not calls.launches


def test_a_torch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(
        CudaUnavailable, match=r"expected a torch built for CUDA, got .*install one"
    ):
        launcher.require_torch("Fake GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CudaUnavailable, match=r"has Fake GPU, but torch .* for CUDA 13\.0 cannot"):
        launcher.require_torch("Fake GPU")


def test_a_gpu_that_cannot_be_used_is_an_error_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing falls back to the CPU."""

    def connect() -> FakeCalls:
        return FakeCalls(gpus=0)

    monkeypatch.setattr(driver, "connect", connect)
    weights = tiny_llama.weights_of()
    for use in (
        lambda: launcher_of("cuda"),
        lambda: Int4Linear.from_tensor(random_tensor(16, 64, 64, 0), device="cuda"),
        lambda: build_int4(weights, tiny_llama.quantized(weights), device="cuda:0"),
    ):
        with pytest.raises(CudaUnavailable, match="the driver finds no GPU"):
            use()
    with pytest.raises(ValueError, match="device must be cpu or cuda, got mps"):
        launcher_of("mps")


def test_memory_that_runs_out_is_said_in_words() -> None:
    gpu, _ = launcher_with((9, 0))
    with (
        pytest.raises(CudaMemoryError, match=r"\[engine\].* \(1\.5 of 141\.0 GB are free\); end"),
        memory_errors(gpu, "engine"),
    ):
        raise torch.OutOfMemoryError
    with pytest.raises(RuntimeError, match=r"^another$"), memory_errors(gpu, "engine"):
        raise RuntimeError("another")


def test_a_step_is_warmed_up_before_it_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, _ = launcher_with((9, 0))
    happened: list[str] = []
    for name, stand_in in _torch_cuda(happened).items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    replay = gpu.capture(lambda: happened.append("step"))
    assert happened == [
        *("side waits for current", "side begins", "step", "side ends"),
        *("current waits for side", "capture begins", "step", "capture ends"),
    ]
    replay()
    assert happened[-1] == "replay"


def _torch_cuda(happened: list[str]) -> dict[str, Any]:
    """Stand-ins for what `capture` uses of torch.cuda; they tell what happened."""

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            happened.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            happened.append("replay")

    @contextlib.contextmanager
    def told(what: str) -> Iterator[None]:
        happened.append(f"{what} begins")
        yield
        happened.append(f"{what} ends")

    def graph(graph: Graph, pool: object, stream: Stream, capture_error_mode: str) -> Any:
        assert (pool, stream.name, capture_error_mode) == ("pool", "side", "thread_local")
        return told("capture")

    current = Stream("current")
    launcher._graph_pool.cache_clear()
    return {
        "device": lambda device: contextlib.nullcontext(),
        "Stream": Stream,
        "current_stream": lambda: current,
        "stream": lambda stream: told(stream.name),
        "CUDAGraph": Graph,
        "graph": graph,
        "graph_pool_handle": lambda: "pool",
    }


def test_scratch_grows_and_keeps_what_it_gave() -> None:
    scratch = Scratch(CPU)

    def plan(size_bytes: int, counters: int) -> Launch:
        return Launch(
            file="", kernel="", macros=(), grid=(1, 1, 1), threads=32,
            workspace_bytes=size_bytes, counters=counters,
        )  # fmt: skip

    assert scratch.of(plan(0, 0)) == (None, None)
    first, counters = scratch.of(plan(100, 3))
    assert (len(first), counters.tolist()) == (100, [0, 0, 0])
    assert scratch.of(plan(64, 2))[0].data_ptr() == first.data_ptr()
    second, more = scratch.of(plan(2 << 20, 7))
    assert (len(second), more.tolist()) == (2 << 20, [0] * 7)
    assert second.data_ptr() != first.data_ptr()
    assert [len(given) for given in scratch._given.values()] == [2, 2], "graphs point to them"
