"""What the CUDA driver's result codes mean here, and what to do about each.

Source of the codes: CUDA Driver API, "enum CUresult".
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebench_kernels.cuda.errors import (
    CudaError,
    CudaMemoryError,
    CudaUnavailable,
    GpuBusy,
    LaunchError,
)

INVALID_VALUE = 1
OUT_OF_MEMORY = 2
NO_DEVICE = 100
INVALID_IMAGE = 200
NO_BINARY_FOR_GPU = 209
UNSUPPORTED_PTX = 222
NOT_FOUND = 500
LOAD_REFUSALS = (INVALID_IMAGE, NO_BINARY_FOR_GPU, UNSUPPORTED_PTX)
"""What drivers answer to code that is newer than they are, or not for this GPU."""

# The first driver of each CUDA version: CUDA Compatibility, "Minor Version Compatibility".
DRIVER_OF_CUDA = {12: "525", 13: "580"}

_AFTER_A_FAULT = "the GPU's context is lost: start a new process"
_FIND_IT = (
    f"{_AFTER_A_FAULT}; compute-sanitizer names the access, CUDA_LAUNCH_BLOCKING=1 the kernel; "
    "please report it"
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code means, what to do, and which error it is raised as."""

    text: str
    fix: str
    raised: type[CudaError] = LaunchError


MEANINGS = {
    INVALID_VALUE: Meaning("the driver refused a size or a pointer", "please report it"),
    OUT_OF_MEMORY: Meaning(
        "the GPU is out of memory",
        "end other processes on the GPU, or use a smaller model, batch or context",
        CudaMemoryError,
    ),
    3: Meaning(  # NOT_INITIALIZED
        "the driver does not work in this process",
        "a process forked after CUDA was used cannot use it: start it with spawn",
        CudaUnavailable,
    ),
    4: Meaning("the driver is shutting down with the process", "launch nothing at exit"),
    34: Meaning(  # STUB_LIBRARY
        "libcuda.so.1 is the toolkit's stub, not a driver",
        "take the toolkit's stubs folder out of LD_LIBRARY_PATH, or install the driver",
        CudaUnavailable,
    ),
    46: Meaning(  # DEVICE_UNAVAILABLE
        "the GPU is taken: its compute mode admits one process",
        "end the other process (nvidia-smi lists it), or: nvidia-smi --compute-mode=DEFAULT",
        GpuBusy,
    ),
    NO_DEVICE: Meaning(
        "the driver finds no GPU",
        "check nvidia-smi and CUDA_VISIBLE_DEVICES; in a container, start it with --gpus all",
        CudaUnavailable,
    ),
    101: Meaning(  # INVALID_DEVICE
        "there is no GPU of that number, or another process has it for itself",
        "check nvidia-smi and CUDA_VISIBLE_DEVICES",
        CudaUnavailable,
    ),
    201: Meaning("this thread has no context of the GPU", "please report it"),  # INVALID_CONTEXT
    INVALID_IMAGE: Meaning(
        "the driver cannot read the code", "remove the cache of cubins and try again"
    ),
    NO_BINARY_FOR_GPU: Meaning("the code is for another GPU", "please report it", CudaUnavailable),
    214: Meaning("the GPU's memory has an error that ECC cannot mend", "reset or replace the GPU"),
    UNSUPPORTED_PTX: Meaning(
        "the code is newer than the driver", "update the NVIDIA driver", CudaUnavailable
    ),
    400: Meaning(  # INVALID_HANDLE
        "the stream or the kernel belongs to another GPU",
        "run under `with torch.cuda.device(...)` of the tensors' GPU",
    ),
    NOT_FOUND: Meaning("the code has no kernel of that name", "please report it"),
    700: Meaning("a kernel touched memory that is not its own", _FIND_IT),
    701: Meaning(  # LAUNCH_OUT_OF_RESOURCES
        "a block needs more registers or shared memory than the GPU has", "please report it"
    ),
    702: Meaning(  # LAUNCH_TIMEOUT
        "the display driver's watchdog ended the kernel",
        f"run without a display on this GPU; {_AFTER_A_FAULT}",
    ),
    715: Meaning("a kernel met an illegal instruction", _FIND_IT),
    716: Meaning("a kernel touched a misaligned address", _FIND_IT),
    718: Meaning("a kernel's program counter left its code", _FIND_IT),
    719: Meaning("a kernel failed", _FIND_IT),
    802: Meaning(  # SYSTEM_NOT_READY
        "the GPUs' fabric is not up",
        "start the service: systemctl start nvidia-fabricmanager",
        CudaUnavailable,
    ),
    803: Meaning(  # SYSTEM_DRIVER_MISMATCH
        "the driver in the kernel and libcuda have different versions",
        "restart the machine after a driver update",
        CudaUnavailable,
    ),
    804: Meaning(  # COMPAT_NOT_SUPPORTED_ON_DEVICE
        "this GPU does not support the forward-compatible libcuda that is in the way",
        "take the folder cuda-compat out of LD_LIBRARY_PATH",
        CudaUnavailable,
    ),
    900: Meaning(  # STREAM_CAPTURE_UNSUPPORTED
        "a CUDA graph is being captured, and this cannot be part of it",
        "load every kernel before capturing",
    ),
    901: Meaning("the capture of a CUDA graph had failed before", "find its first error"),
    999: Meaning(
        "the driver fails for an unknown reason",
        "restart the machine, or reload its module: rmmod nvidia_uvm && modprobe nvidia_uvm",
        CudaUnavailable,
    ),
    912: Meaning(  # INVALID_CLUSTER_SIZE
        "a grid must be whole clusters, of a size that this GPU has", "please report it"
    ),
}


def error(code: int, name: str, where: str, context: str = "") -> CudaError:
    """What a result code is raised as: `[where] what it means (context; its name); what to do`."""
    meaning = MEANINGS.get(code, Meaning("the driver failed", "please report it"))
    details = "; ".join(part for part in (context, f"{name}, {code}") if part)
    return meaning.raised(f"[{where}] {meaning.text} ({details}); {meaning.fix}")
