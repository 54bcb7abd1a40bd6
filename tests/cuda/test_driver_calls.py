"""cuda-bindings behind the protocol: what it hands to a fake libcuda, what it makes of answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgebench_kernels.cuda import driver_errors
from edgebench_kernels.cuda.driver import Gpu
from edgebench_kernels.cuda.driver_calls import BoundCalls, GpuProcess, connect
from edgebench_kernels.cuda.errors import CudaUnavailable

NO_BINDINGS = "cuda-bindings is not installed; pip install 'edgebench[nvidia]'"


def test_without_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(CudaUnavailable, match=r"cuda-core is needed .*pip install 'edgebench\["):
        connect()


def bound(**functions: Callable[..., Any]) -> BoundCalls:
    """cuda-bindings' calls over a driver of a few functions."""
    return BoundCalls(types.SimpleNamespace(**functions))


def test_without_a_driver() -> None:
    def missing(flags: int) -> None:  # as cuda.pathfinder says it
        raise RuntimeError('"cuda" can only be found via system search.\nlong story')

    with pytest.raises(CudaUnavailable) as caught:
        Gpu.open(calls=bound(cuInit=missing))
    said = str(caught.value)
    assert said.startswith('[cuda] no NVIDIA driver: "cuda" can only be found via system search.;')
    assert "--gpus all" in said
    assert "--device cpu" in said


class NvmlError(Exception):
    pass


def nvml(rows: list[Any], error: Exception | None = None) -> types.ModuleType:
    """nvidia-ml-py, of which the handle must be asked for by the bus id of the GPU."""
    module = types.ModuleType("pynvml")

    def handle(bus: bytes) -> bytes:
        if error:
            raise error
        assert bus == b"0000:1B:00.0"
        return bus

    vars(module).update(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByPciBusId=handle,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: rows,
    )
    return module


def test_nvml_tells_who_is_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = bound(cuDeviceGetPCIBusId=lambda size, device: (0, b"0000:1B:00.0\0\0"))
    row = types.SimpleNamespace(pid=17, usedGpuMemory=4096)
    monkeypatch.setitem(sys.modules, "pynvml", nvml([row]))
    assert calls.processes(0) == (GpuProcess(17, 4096),)
    monkeypatch.setitem(sys.modules, "pynvml", nvml([], NvmlError("not supported")))
    assert calls.processes(0) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert calls.processes(0) is None


SCRIPT = """
import sys
from edgebench_kernels.cuda import driver
from edgebench_kernels.cuda.compile import Cubin
from edgebench_kernels.cuda.driver_calls import Tiles
from edgebench_kernels.cuda.errors import CudaError
from edgebench_kernels.cuda.kernels import KERNELS, Kernel
KERNELS["toy"] = Kernel(
    file="toy.cu", parameters=("pointer", "int32", "pointer", "float32", "int32"), variants=()
)
driver.build = lambda name, arch, macros: Cubin(
    code=b"\\x7fELF code", arch=arch, log="", is_from_cache=False
)
try:
    gpu = driver.Gpu.open()
    kernel = gpu.load("toy", {})
    arguments = (0x7F0000000010, -7, 0, 0.5, 2**31 - 1)
    kernel.launch(grid=(5, 6, 7), threads=96, arguments=arguments, stream=0x77)
    large = {"shared_bytes": 60000, "overlap": True}
    kernel.launch(grid=(8, 1, 1), threads=32, arguments=arguments, stream=0x78, **large)
    cluster = {"grid": (8, 1, 4), "threads": 32, "arguments": arguments, "cluster": 4}
    kernel.launch(**cluster, stream=0x79)
    kernel.launch(**cluster, stream=0x7A, overlap=True)
    made = gpu.tensor_map(Tiles(0x7F0000000020, (33, 4096), 64))
    assert made == bytes(range(128)), made
    print(gpu.name, gpu.arch, gpu.memory_bytes())
except CudaError as err:
    sys.exit(f"{type(err).__name__}: {err}")
"""


@pytest.fixture(scope="module")
def fake_libcuda(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libcuda.so.1 that needs no GPU."""
    pytest.importorskip("cuda.bindings.driver", reason=NO_BINDINGS)
    folder = tmp_path_factory.mktemp("libcuda")
    source = root / "tests" / "native" / "cuda" / "fake_libcuda.cpp"
    flags = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    compiler = os.environ.get("CXX", "g++")
    subprocess.run(
        [compiler, *flags, "-o", str(folder / "libcuda.so.1"), str(source)], check=True, timeout=120
    )
    return folder


@pytest.fixture
def run_script(
    fake_libcuda: Path, tmp_path: Path, house_environment: dict[str, str]
) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run SCRIPT over the fake libcuda; its calls are in the file `calls`."""

    def run(results: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            **house_environment,
            "LD_LIBRARY_PATH": str(fake_libcuda),
            "FAKE_CUDA_LOG": str(tmp_path / "calls"),
            "FAKE_CUDA_ARGUMENTS": "pipfi",
            "FAKE_CUDA_RESULTS": results,
        }
        return subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.nvrtc
def test_the_real_calls_reach_the_driver_as_c_wants_them(
    run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_script()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Fake H200 sm_90a (1500000000, 141000000000)\n"
    shown = "0x7f0000000010 -7 (nil) 0.5 2147483647"
    assert [line.strip() for line in (tmp_path / "calls").read_text().splitlines()] == [
        "cuInit 0",
        "cuDriverGetVersion",
        "cuDeviceGetCount",
        "cuDeviceGetName 0",
        "cuDeviceGetAttribute 75 0",
        "cuDeviceGetAttribute 76 0",
        "cuDevicePrimaryCtxRetain 0",
        "cuCtxSetCurrent primary",
        "cuModuleLoadData ELF",
        "cuModuleGetFunction module toy",
        "cuLaunchKernel function grid 5 6 7 block 96 1 1 shared 0 stream 0x77 extra 0: " + shown,
        "cuFuncSetAttribute function 8 60000",  # MAX_DYNAMIC_SHARED_SIZE_BYTES
        "cuLaunchKernelEx function grid 8 1 1 block 32 1 1 shared 60000 stream 0x78 extra 0 "
        "attributes 6=1: " + shown,  # PROGRAMMATIC_STREAM_SERIALIZATION
        "cuLaunchKernelEx function grid 8 1 4 block 32 1 1 shared 0 stream 0x79 extra 0 "
        "attributes 4=1x1x4: " + shown,  # CLUSTER_DIMENSION
        "cuLaunchKernelEx function grid 8 1 4 block 32 1 1 shared 0 stream 0x7a extra 0 "
        "attributes 6=1 4=1x1x4: " + shown,
        # FLOAT16, elements of a row and rows, bytes between rows; 64 x 64 elements, each of them;
        # no interleaving, SWIZZLE_128B, L2_128B, zeros outside
        "cuTensorMapEncodeTiled type 6 rank 2 at 0x7f0000000020 of 4096 33 strides 8192 box 64 64 "
        "steps 1 1 kinds 0 3 2 0",
        "cuMemGetInfo",
    ]


@pytest.mark.nvrtc
@pytest.mark.parametrize(
    ("results", "said"),
    [
        (
            "cuInit=100",
            "CudaUnavailable: [cuda] the driver finds no GPU (CUDA_ERROR_NO_DEVICE,",
        ),
        ("cuDevicePrimaryCtxRetain=46", "GpuBusy: [cuda] the GPU is taken"),
        (
            "cuCtxSetCurrent=2",
            "CudaMemoryError: [cuda] the GPU is out of memory (Fake H200, 1.5 GB",
        ),
        ("cuModuleLoadData=209", "CudaUnavailable: [toy] the code is for another GPU (Fake H200"),
        ("cuModuleGetFunction=500", "LaunchError: [toy] the code has no kernel of that name"),
        ("cuLaunchKernel=700", "(Fake H200; CUDA_ERROR_ILLEGAL_ADDRESS, 700)"),
        ("cuFuncSetAttribute=1", "CUDA_ERROR_INVALID_VALUE, 1"),
        ("cuLaunchKernelEx=719", "LaunchError: [toy] a kernel failed"),
        ("cuTensorMapEncodeTiled=1", "LaunchError: [tensor map]"),
        ("cuMemGetInfo=205", "the driver failed (Fake H200; CUDA_ERROR_MAP_FAILED, 205)"),
    ],
)
def test_the_real_calls_hand_on_what_the_driver_says(
    results: str, said: str, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_script(results)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_every_code_is_the_drivers() -> None:
    bindings = pytest.importorskip("cuda.bindings.driver", reason=NO_BINDINGS)
    text = Path(driver_errors.__file__).read_text()
    for code in driver_errors.MEANINGS:
        name = bindings.CUresult(code).name.removeprefix("CUDA_ERROR_")
        noted = re.search(rf"^    {code}: Meaning\(.*# (\w+)$", text, re.MULTILINE)
        assert noted is None or noted[1] == name
    for constant in ("INVALID_VALUE", "OUT_OF_MEMORY", "NO_DEVICE", "INVALID_IMAGE", "NOT_FOUND"):
        code = getattr(bindings.CUresult, f"CUDA_ERROR_{constant}")
        assert getattr(driver_errors, constant) == int(code)
    assert int(bindings.CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU) == driver_errors.NO_BINARY_FOR_GPU
    assert (
        int(bindings.CUresult.CUDA_ERROR_UNSUPPORTED_PTX_VERSION) == driver_errors.UNSUPPORTED_PTX
    )
