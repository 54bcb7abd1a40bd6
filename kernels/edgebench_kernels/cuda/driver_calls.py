"""The few calls of the CUDA driver that kernels need: a protocol, and cuda-bindings behind it.

Each call returns the driver's result code first; `driver` puts codes in words. Tests put a fake in
this place, and run the real one against a fake libcuda.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

from edgebench_kernels.cuda.errors import CudaUnavailable

SUCCESS = 0
TILE_COLUMNS = 64  # of a tile: 128 bytes, the widest swizzle
HALF_BYTES = 2


class GpuProcess(NamedTuple):
    """A process that holds memory of a GPU."""

    pid: int
    memory_bytes: int | None


class Tiles(NamedTuple):
    """A matrix of fp16 [rows, columns] in global memory that a kernel copies by tiles.

    A tile is `box_rows` rows of TILE_COLUMNS columns.
    """

    address: int
    shape: tuple[int, int]
    box_rows: int


class LaunchShape(NamedTuple):
    """Where a kernel runs; `overlap`: it may start before the one before it has ended.

    cluster: blocks along z that run at the same time (sm_90).
    """

    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    stream: int
    overlap: bool
    cluster: int = 1


class DriverCalls(Protocol):
    """What `driver.Gpu` asks of the driver; handles are opaque, a first item is a result code."""

    def initialize(self) -> int:
        """Start the driver in this process."""
        ...

    def version(self) -> tuple[int, tuple[int, int]]:
        """The newest CUDA version that the driver knows."""
        ...

    def count(self) -> tuple[int, int]:
        """GPUs that this process may see."""
        ...

    def name(self, device: int) -> tuple[int, str]:
        """What the GPU is called."""
        ...

    def capability(self, device: int) -> tuple[int, tuple[int, int]]:
        """The GPU's compute capability."""
        ...

    def make_current(self, device: int) -> int:
        """Use torch's context (the primary one) of the GPU in the calling thread."""
        ...

    def load(self, code: bytes) -> tuple[int, Any]:
        """A cubin's module in the current context."""
        ...

    def function(self, module: Any, entry: str) -> tuple[int, Any]:
        """A kernel of a module."""
        ...

    def allow_shared_bytes(self, function: Any, size_bytes: int) -> int:
        """Let a block have more than 48 KB of shared memory."""
        ...

    def tensor_map(self, tiles: Tiles) -> tuple[int, bytes]:
        """What a kernel's copies of tiles read (sm_90): 128 bytes, to be passed by value."""
        ...

    def launch(self, function: Any, shape: LaunchShape, arguments: int) -> int:
        """Start a kernel; `arguments` is the address of an array of addresses of its arguments."""
        ...

    def memory(self) -> tuple[int, int, int]:
        """Free and total bytes of the GPU."""
        ...

    def processes(self, device: int) -> tuple[GpuProcess, ...] | None:
        """The processes that compute on the GPU; None where nobody can say."""
        ...

    def code_name(self, code: int) -> str:
        """The driver's own name of a result code."""
        ...


def connect() -> DriverCalls:
    """The calls of this machine's driver; CudaUnavailable where a part is missing."""
    try:
        from cuda.bindings import driver
    except ImportError as err:
        raise CudaUnavailable(
            f"[cuda] cuda-core is needed to launch kernels ({err}); pip install "
            "'edgebench[nvidia]' (on a Jetson: 'edgebench[jetson]')"
        ) from err
    return BoundCalls(driver)


class BoundCalls:
    """The calls through cuda-bindings, which cuda-core brings."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._contexts: dict[int, Any] = {}

    def initialize(self) -> int:
        """cuInit."""
        try:
            (code,) = self._driver.cuInit(0)
        except RuntimeError as err:  # libcuda.so.1 is not there, or lacks a function
            raise CudaUnavailable(
                f"[cuda] no NVIDIA driver: {str(err).splitlines()[0]}; install the driver (in a "
                "container: start it with --gpus all, on a Jetson with --runtime nvidia), or use "
                "--device cpu"
            ) from err
        return int(code)

    def version(self) -> tuple[int, tuple[int, int]]:
        """cuDriverGetVersion."""
        code, number = self._driver.cuDriverGetVersion()
        return int(code), (number // 1000, number % 1000 // 10)

    def count(self) -> tuple[int, int]:
        """cuDeviceGetCount."""
        code, count = self._driver.cuDeviceGetCount()
        return int(code), int(count or 0)

    def name(self, device: int) -> tuple[int, str]:
        """cuDeviceGetName."""
        code, name = self._driver.cuDeviceGetName(256, device)
        return int(code), (name or b"").split(b"\0")[0].decode()

    def capability(self, device: int) -> tuple[int, tuple[int, int]]:
        """cuDeviceGetAttribute, twice."""
        kinds = self._driver.CUdevice_attribute
        values = []
        for kind in (
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        ):
            code, value = self._driver.cuDeviceGetAttribute(kind, device)
            if int(code) != SUCCESS:
                return int(code), (0, 0)
            values.append(int(value))
        return SUCCESS, (values[0], values[1])

    def make_current(self, device: int) -> int:
        """cuDevicePrimaryCtxRetain, once, then cuCtxSetCurrent."""
        if device not in self._contexts:
            code, context = self._driver.cuDevicePrimaryCtxRetain(device)
            if int(code) != SUCCESS:
                return int(code)
            self._contexts[device] = context
        (code,) = self._driver.cuCtxSetCurrent(self._contexts[device])
        return int(code)

    def load(self, code: bytes) -> tuple[int, Any]:
        """cuModuleLoadData."""
        result, module = self._driver.cuModuleLoadData(code)
        return int(result), module

    def function(self, module: Any, entry: str) -> tuple[int, Any]:
        """cuModuleGetFunction."""
        code, function = self._driver.cuModuleGetFunction(module, entry.encode())
        return int(code), function

    def allow_shared_bytes(self, function: Any, size_bytes: int) -> int:
        """cuFuncSetAttribute."""
        kind = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (code,) = self._driver.cuFuncSetAttribute(function, kind, size_bytes)
        return int(code)

    def tensor_map(self, tiles: Tiles) -> tuple[int, bytes]:
        """cuTensorMapEncodeTiled: fp16, 128-byte swizzle, zeros outside."""
        driver, (rows, columns) = self._driver, tiles.shape
        code, made = driver.cuTensorMapEncodeTiled(
            driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            2,
            tiles.address,
            [driver.cuuint64_t(size) for size in (columns, rows)],
            [driver.cuuint64_t(HALF_BYTES * columns)],
            [driver.cuuint32_t(size) for size in (TILE_COLUMNS, tiles.box_rows)],
            [driver.cuuint32_t(1)] * 2,
            driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
            driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        words = [] if int(code) != SUCCESS else [int(word) for word in made.opaque]
        return int(code), struct.pack(f"<{len(words)}Q", *words)

    def launch(self, function: Any, shape: LaunchShape, arguments: int) -> int:
        """cuLaunchKernel; with `overlap` or a cluster cuLaunchKernelEx."""
        if shape.overlap or shape.cluster > 1:
            (code,) = self._driver.cuLaunchKernelEx(self._config(shape), function, arguments, 0)
        else:
            (code,) = self._driver.cuLaunchKernel(
                function,
                *shape.grid,
                *(shape.threads, 1, 1),
                *(shape.shared_bytes, shape.stream, arguments, 0),
            )
        return int(code)

    def _config(self, shape: LaunchShape) -> Any:
        """Programmatic dependent launch and clusters, which only the extended call knows."""
        kinds, attributes = self._driver.CUlaunchAttributeID, []
        if shape.overlap:
            attribute = self._driver.CUlaunchAttribute()
            attribute.id = kinds.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            attributes.append(attribute)
        if shape.cluster > 1:
            attribute = self._driver.CUlaunchAttribute()
            attribute.id = kinds.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
            sizes = attribute.value.clusterDim
            sizes.x, sizes.y, sizes.z = 1, 1, shape.cluster
            attributes.append(attribute)
        config = self._driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = shape.grid
        config.blockDimX, config.blockDimY, config.blockDimZ = shape.threads, 1, 1
        config.sharedMemBytes = shape.shared_bytes
        config.hStream = shape.stream
        config.attrs = attributes
        config.numAttrs = len(attributes)
        return config

    def memory(self) -> tuple[int, int, int]:
        """cuMemGetInfo."""
        code, free, total = self._driver.cuMemGetInfo()
        return int(code), int(free or 0), int(total or 0)

    def processes(self, device: int) -> tuple[GpuProcess, ...] | None:
        """NVML, where nvidia-ml-py is installed."""
        try:
            import pynvml  # of nvidia-ml-py
        except ImportError:
            return None
        code, bus = self._driver.cuDeviceGetPCIBusId(32, device)
        if int(code) != SUCCESS:
            return None
        try:
            pynvml.nvmlInit()
            try:
                handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus.split(b"\0")[0])
                found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            finally:
                pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return None
        return tuple(GpuProcess(row.pid, row.usedGpuMemory) for row in found)

    def code_name(self, code: int) -> str:
        """The name in the enumeration CUresult."""
        try:
            return str(self._driver.CUresult(code).name)
        except ValueError:
            return "unknown"
