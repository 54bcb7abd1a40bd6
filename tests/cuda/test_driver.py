"""Kernels are loaded and launched as asked; whatever the driver refuses is said in words."""

from __future__ import annotations

import sys
import threading
import types
from typing import Any

import pytest

from edgebench_kernels.cuda import driver, driver_errors
from edgebench_kernels.cuda.compile import Cubin
from edgebench_kernels.cuda.driver import Gpu, LoadedKernel
from edgebench_kernels.cuda.driver_calls import GpuProcess
from edgebench_kernels.cuda.errors import (
    CompileError,
    CudaError,
    CudaMemoryError,
    CudaUnavailable,
    GpuBusy,
    LaunchError,
)
from edgebench_kernels.cuda.kernels import KERNELS, PARAMETERS, Kernel
from tests.cuda.fake_driver import C_TYPES, FakeCalls, ours

TOY = Kernel(
    file="toy.cu",
    parameters=("pointer", "int32", "pointer", "float32", "int64", "int32"),
    variants=(),
)
ARGUMENTS = (2**47 + 16, -7, 0, 0.5, -(2**40), 2**31 - 1)
LARGE = 60 << 10  # of shared memory: above what needs no attribute


@pytest.fixture(autouse=True)
def builds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, int]]]:
    """One kernel more, and no compiler: what was compiled."""
    asked: list[tuple[str, str, dict[str, int]]] = []

    def build(name: str, arch: str, macros: dict[str, int]) -> Cubin:
        asked.append((name, arch, dict(macros)))
        return Cubin(code=f"{name} {arch}".encode(), arch=arch, log="", is_from_cache=False)

    monkeypatch.setitem(KERNELS, "toy", TOY)
    monkeypatch.setattr(driver, "build", build)
    monkeypatch.setattr(driver, "nvrtc_version", lambda: "13.0 (13.0.88)")
    monkeypatch.setattr(driver, "current_stream", lambda device: 0x500 + device)
    return asked


def fake(**options: Any) -> FakeCalls:
    return FakeCalls(parameters=TOY.parameters, **options)


def toy(calls: FakeCalls) -> LoadedKernel:
    return Gpu.open(calls=calls).load("toy", {"WIDTH": 4})


def launch(kernel: LoadedKernel, **options: Any) -> None:
    asked = {"grid": (3, 2, 1), "threads": 64, "arguments": ARGUMENTS, **options}
    kernel.launch(**asked)


# ------------------------------------------------------------------------------------------ open


@pytest.mark.parametrize(
    ("capability", "arch"), [((8, 0), "sm_80"), ((8, 7), "sm_87"), ((9, 0), "sm_90a")]
)
def test_a_gpu_is_opened_for_its_architecture(capability: tuple[int, int], arch: str) -> None:
    gpu = Gpu.open(calls=fake(gpu_capability=capability))
    assert (gpu.arch, gpu.name, gpu.device) == (arch, "Fake GPU 0", 0)


@pytest.mark.parametrize(
    ("call", "code", "raised", "said"),
    [
        ("initialize", 100, CudaUnavailable, "no GPU .*CUDA_VISIBLE_DEVICES.*--gpus all"),
        ("initialize", 34, CudaUnavailable, "stub.*LD_LIBRARY_PATH"),
        ("initialize", 46, GpuBusy, "taken.*nvidia-smi --compute-mode=DEFAULT"),
        ("initialize", 803, CudaUnavailable, "different versions.*restart the machine"),
        ("initialize", 804, CudaUnavailable, "cuda-compat"),
        ("initialize", 802, CudaUnavailable, "nvidia-fabricmanager"),
        ("initialize", 3, CudaUnavailable, "forked.*spawn"),
        ("initialize", 999, CudaUnavailable, "nvidia_uvm"),
        ("make_current", 2, CudaMemoryError, "out of memory .*1.5 GB of 141.0 GB are free"),
        ("make_current", 46, GpuBusy, "admits one process"),
        ("make_current", 101, CudaUnavailable, "nvidia-smi"),
        ("count", 12345, LaunchError, r"the driver failed \(CUDA_ERROR_12345, 12345\)"),
    ],
)
def test_what_the_driver_refuses_at_first(
    call: str, code: int, raised: type[CudaError], said: str
) -> None:
    with pytest.raises(raised, match=said) as caught:
        Gpu.open(calls=fake(results={call: code}))
    assert f"CUDA_ERROR_{code}, {code}" in str(caught.value)


def test_no_gpu_at_all() -> None:
    with pytest.raises(CudaUnavailable, match="the driver finds no GPU"):
        Gpu.open(calls=fake(gpus=0))


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(CudaUnavailable, match=r"out of 0\.\.1, got 2; .*DEVICES is 3,5"):
        Gpu.open(2, calls=fake(gpus=2))


def test_a_gpu_without_kernels() -> None:
    with pytest.raises(CudaUnavailable, match=r"8\.7 \(Jetson Orin\).* Fake GPU 0 has 12\.0"):
        Gpu.open(calls=fake(gpu_capability=(12, 0)))


def test_a_driver_that_is_too_old_for_anything() -> None:
    with pytest.raises(CudaUnavailable, match=r"CUDA 11\.4, too old for CUDA 12\.0; .*to 525 or"):
        Gpu.open(calls=fake(cuda_version=(11, 4)))


def test_the_context_is_bound_once_in_each_thread() -> None:
    calls = fake()
    kernel = toy(calls)
    for _ in range(3):
        launch(kernel)
    other = threading.Thread(target=lambda: [launch(kernel), launch(kernel)])
    other.start()
    other.join()
    assert len(calls.launches) == 5
    assert len(calls.threads) == 2
    assert len(set(calls.threads)) == 2


# ------------------------------------------------------------------------------------------ load


def test_a_kernel_is_compiled_and_loaded_once(builds: list) -> None:
    calls = fake(gpu_capability=(8, 7))
    gpu = Gpu.open(calls=calls)
    first = gpu.load("toy", {"A": 1, "B": 2})
    assert gpu.load("toy", {"B": 2, "A": 1}) is first
    assert gpu.load("toy", {"A": 1, "B": 3}) is not first
    assert builds == [("toy", "sm_87", {"A": 1, "B": 2}), ("toy", "sm_87", {"A": 1, "B": 3})]
    assert calls.loaded == [b"toy sm_87"] * 2


@pytest.mark.parametrize("code", driver_errors.LOAD_REFUSALS)
def test_a_driver_that_is_too_old_for_the_code(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "nvrtc_version", lambda: "13.5 (13.5.37)")
    gpu = Gpu.open(calls=fake(results={"load": code}, cuda_version=(12, 6)))
    with pytest.raises(CudaUnavailable) as caught:
        gpu.load("toy", {})
    said = str(caught.value)
    assert "driver knows CUDA 12.6, too old for [toy] code of NVRTC 13.5 (13.5.37)" in said
    assert "update the driver to 580 or newer" in said
    assert "pip install 'cuda-core[cu12]'" in said


def test_code_for_another_gpu() -> None:
    gpu = Gpu.open(calls=fake(results={"load": 209}))
    with pytest.raises(CudaUnavailable, match=r"\[toy\] the code is for another GPU \(Fake GPU 0"):
        gpu.load("toy", {})


def test_code_that_the_driver_cannot_read() -> None:
    gpu = Gpu.open(calls=fake(results={"load": 200}))
    with pytest.raises(LaunchError, match="remove the cache of cubins"):
        gpu.load("toy", {})


def test_no_memory_for_the_code() -> None:
    listed = (ours(), GpuProcess(4711, 80_000_000_000), GpuProcess(4712, None))
    gpu = Gpu.open(calls=fake(results={"load": 2}, listed=listed))
    with pytest.raises(MemoryError) as caught:
        gpu.load("toy", {})
    assert isinstance(caught.value, CudaMemoryError)
    said = str(caught.value)
    assert "1.5 GB of 141.0 GB are free" in said
    assert "also there: process 4711 with 80.0 GB, process 4712" in said


def test_code_without_the_kernel() -> None:
    gpu = Gpu.open(calls=fake(results={"function": 500}))
    with pytest.raises(LaunchError, match=r"\[toy\] the code has no kernel of that name"):
        gpu.load("toy", {})


def test_what_could_not_be_loaded_is_not_remembered() -> None:
    calls = fake(results={"load": 2})
    gpu = Gpu.open(calls=calls)
    with pytest.raises(CudaMemoryError):
        gpu.load("toy", {})
    calls.results = {}
    launch(gpu.load("toy", {}))
    assert len(calls.launches) == 1


def test_a_compile_error_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, arch: str, macros: dict[str, int]) -> Cubin:
        raise CompileError(f"[{name}] no")

    monkeypatch.setattr(driver, "build", refuse)
    with pytest.raises(CompileError, match=r"\[toy\] no"):
        Gpu.open(calls=fake()).load("toy", {})


# ---------------------------------------------------------------------------------------- launch


def test_a_launch_hands_over_what_was_asked() -> None:
    calls = fake()
    launch(toy(calls))
    (launched,) = calls.launches
    assert launched.function == "module 1: toy"
    assert launched.shape.grid == (3, 2, 1)
    assert launched.shape.threads == 64
    assert launched.shape.shared_bytes == 0
    assert not launched.shape.overlap
    pointer, *numbers = launched.arguments
    assert pointer == ARGUMENTS[0]
    assert numbers == [-7, None, 0.5, -(2**40), 2**31 - 1]  # ctypes shows a null pointer as None


def test_arguments_of_every_type_are_packed_as_c_packs_them() -> None:
    assert set(PARAMETERS) == set(C_TYPES)


def test_a_launch_is_on_torchs_stream() -> None:
    calls = fake(gpus=2)
    gpu = Gpu.open(1, calls=calls)
    kernel = gpu.load("toy", {})
    launch(kernel)
    launch(kernel, stream=0x77, overlap=True)
    assert [launched.shape.stream for launched in calls.launches] == [0x501, 0x77]
    assert [launched.shape.overlap for launched in calls.launches] == [False, True]


def test_the_stream_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    torch = types.ModuleType("torch")
    stream = types.SimpleNamespace(cuda_stream=0x1234)
    torch.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        current_stream=lambda device: stream if device == 1 else None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        assert driver.current_stream(1) == 0x1234


def test_much_shared_memory_is_asked_for_once() -> None:
    calls = fake()
    kernel = toy(calls)
    for size_bytes in (driver.PLAIN_SHARED_BYTES, LARGE, LARGE, LARGE + 16, LARGE):
        launch(kernel, shared_bytes=size_bytes)
    assert calls.shared_bytes == [LARGE, LARGE + 16]
    assert [one.shape.shared_bytes for one in calls.launches][-1] == LARGE


@pytest.mark.parametrize(
    ("code", "raised", "said"),
    [
        (1, LaunchError, "refused a size or a pointer"),
        (2, CudaMemoryError, "1.5 GB of 141.0 GB are free"),
        (400, LaunchError, r"another GPU .*torch\.cuda\.device"),
        (700, LaunchError, "memory that is not its own .*CUDA_LAUNCH_BLOCKING=1"),
        (701, LaunchError, "more registers or shared memory"),
        (702, LaunchError, "watchdog"),
        (716, LaunchError, "misaligned address .*compute-sanitizer"),
        (719, LaunchError, "a kernel failed .*start a new process"),
        (900, LaunchError, "load every kernel before capturing"),
        (209, CudaUnavailable, "for another GPU"),
        (31337, LaunchError, "the driver failed .*please report it"),
    ],
)
def test_a_launch_that_fails_raises_and_runs_nothing_else(
    code: int, raised: type[CudaError], said: str
) -> None:
    calls = fake(results={"launch": code})
    kernel = toy(calls)
    with pytest.raises(raised, match=rf"^\[toy\] .*{said}") as caught:
        launch(kernel)
    assert f"CUDA_ERROR_{code}, {code}" in str(caught.value)
    assert "Fake GPU 0" in str(caught.value)
    assert len(calls.launches) == 1
    assert len(calls.loaded) == 1


def test_shared_memory_that_the_driver_refuses() -> None:
    calls = fake(results={"allow_shared_bytes": 1})
    kernel = toy(calls)
    with pytest.raises(LaunchError):
        launch(kernel, shared_bytes=LARGE)
    assert calls.launches == []
    calls.results = {}
    launch(kernel, shared_bytes=LARGE)
    assert calls.shared_bytes == [LARGE, LARGE]  # asked again: it was not granted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grid": (0, 1, 1)}, r"grid of 1 to .*got \(0, 1, 1\)"),
        ({"grid": (1, 65536, 1)}, "smaller batch"),
        ({"grid": (2**31, 1, 1)}, "smaller batch"),
        ({"threads": 0}, "whole warps"),
        ({"threads": 48}, "whole warps of at most 1024 threads, got 48"),
        ({"threads": 1056}, "whole warps"),
        ({"shared_bytes": (227 << 10) + 1}, "at most 232448 bytes .* on sm_90a, got 232449"),
        ({"shared_bytes": -1}, "shared memory"),
        ({"grid": (1, 1, 16), "cluster": 16}, "clusters of at most 8 blocks on sm_90a, .*got 16"),
        ({"grid": (1, 1, 6), "cluster": 4}, "which divide 6, got 4"),
        ({"cluster": 0}, "clusters"),
        ({"arguments": ARGUMENTS[:-1]}, r"pointer, int32, .*int32, got \("),
        ({"arguments": (*ARGUMENTS, 0)}, "please report it"),
        ({"arguments": (*ARGUMENTS[:-1], 2**31)}, "please report it"),  # no int32
        ({"arguments": (*ARGUMENTS[:-1], 0.5)}, "please report it"),
        ({"arguments": (-1, *ARGUMENTS[1:])}, "please report it"),  # no address
    ],
)
def test_a_launch_that_cannot_be(options: dict[str, Any], said: str) -> None:
    calls = fake()
    kernel = toy(calls)
    with pytest.raises(LaunchError, match=rf"^\[toy\] expected .*{said}"):
        launch(kernel, **options)
    assert calls.launches == []


def test_clusters_reach_the_driver_where_there_are_any() -> None:
    calls = fake()
    launch(toy(calls), grid=(3, 1, 4), cluster=4)
    assert [one.shape.cluster for one in calls.launches] == [4]
    older = fake(gpu_capability=(8, 9))
    with pytest.raises(LaunchError, match="clusters of at most 1 blocks on sm_89"):
        launch(toy(older), grid=(3, 1, 4), cluster=4)


# -------------------------------------------------------------------------------- other processes

OTHER = GpuProcess(4711, 2_000_000_000)
THIRD = GpuProcess(4712, None)


@pytest.mark.parametrize(
    ("listed", "others"),
    [
        ((), ()),
        ((ours(),), ()),
        ((ours(), OTHER), (OTHER,)),
        ((OTHER, ours(), THIRD), (OTHER, THIRD)),
        ((OTHER,), ()),  # ours under the host's number
        ((OTHER, THIRD), (THIRD,)),
        (None, None),
    ],
)
def test_who_else_is_on_the_gpu(
    listed: tuple[GpuProcess, ...] | None, others: tuple[GpuProcess, ...] | None
) -> None:
    gpu = Gpu.open(calls=fake(listed=listed))
    assert gpu.other_processes() == others
    if not others:
        gpu.require_sole_use()
        return
    with pytest.raises(GpuBusy, match=r"alone on Fake GPU 0, found process 471.*; end it"):
        gpu.require_sole_use()


def test_free_memory() -> None:
    assert Gpu.open(calls=fake()).memory_bytes() == (1_500_000_000, 141_000_000_000)


# ----------------------------------------------------------------------------------------- words


@pytest.mark.parametrize("code", driver_errors.MEANINGS)
def test_every_meaning_says_what_to_do(code: int) -> None:
    meaning = driver_errors.MEANINGS[code]
    error = driver_errors.error(code, "NAME", "where", "context")
    assert type(error) is meaning.raised
    assert str(error) == f"[where] {meaning.text} (context; NAME, {code}); {meaning.fix}"
    assert meaning.fix
