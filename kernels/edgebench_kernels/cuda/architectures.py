"""The GPU architectures that kernels are compiled for, and what a block may use there.

Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebench_kernels.cuda.errors import CompileError, CudaUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One compilation target; `capability` is the compute capability that runs it."""

    capability: tuple[int, int]
    shared_bytes: int
    """Of a block, with the attribute set; without it 48 KB everywhere."""
    devices: str


# sm_90a, not sm_90: wgmma exists on the former only, and on the latter a guarded body is empty.
ARCHITECTURES = {
    "sm_80": Architecture(capability=(8, 0), shared_bytes=163 << 10, devices="A100, A30"),
    "sm_86": Architecture(capability=(8, 6), shared_bytes=99 << 10, devices="RTX 30, A10, A40"),
    "sm_87": Architecture(capability=(8, 7), shared_bytes=163 << 10, devices="Jetson Orin"),
    "sm_89": Architecture(capability=(8, 9), shared_bytes=99 << 10, devices="RTX 40, L4, L40"),
    "sm_90a": Architecture(capability=(9, 0), shared_bytes=227 << 10, devices="H100, H200"),
}


def architecture(name: str) -> Architecture:
    """The row of `name`; CompileError, with the rows there are, if there is none."""
    if name not in ARCHITECTURES:
        raise CompileError(
            f"[cuda] expected an architecture out of {', '.join(ARCHITECTURES)}, got {name!r}"
        )
    return ARCHITECTURES[name]


def architecture_of(capability: tuple[int, int], device: str) -> str:
    """The architecture to compile for on a GPU; CudaUnavailable if there is none."""
    for name, row in ARCHITECTURES.items():
        if row.capability == capability:
            return name
    known = ", ".join(
        f"{row.capability[0]}.{row.capability[1]} ({row.devices})" for row in ARCHITECTURES.values()
    )
    raise CudaUnavailable(
        f"[cuda] expected a GPU of compute capability {known}; {device} has "
        f"{capability[0]}.{capability[1]}, for which no kernel was ever tested; use --device cpu"
    )
