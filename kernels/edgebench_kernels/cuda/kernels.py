"""The table of GPU kernels: what each is compiled from, what it is passed, what its code must hold.

Adding a kernel = one file in `csrc/cuda`, one row here, and the census written anew:
`python -m edgebench_kernels.cuda.census --write`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgebench_kernels.cuda import compile as nvrtc
from edgebench_kernels.cuda import geometry
from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.errors import CompileError
from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU, Linear
from edgebench_kernels.formats import GROUPS

N, K = 4096, 4096
"""Of a linear that is compiled for: macros do not depend on them."""

PARAMETERS = {"pointer": "Q", "int32": "i", "int64": "q", "float32": "f"}
"""Type of a kernel's parameter -> its code in `struct`, which packs it at launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One set of macros that the census watches.

    tensor_per_word: tensor-core instructions that one packed word (256 weights in a warp) needs, so
    that the census can count words; None where the kernel reads no packed weights in a loop.
    """

    macros: geometry.Macros
    tensor_per_word: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A row: the kernel of that name in `file`. `tensor`: the operation that its code must hold."""

    file: str
    parameters: tuple[str, ...]
    variants: tuple[Variant, ...]
    tensor: str | None = None
    architectures: tuple[str, ...] = tuple(ARCHITECTURES)


def _gemv(m: int, group: int = 128, epilogue: int = 0, *, is_dependent: bool = False) -> Variant:
    linear = Linear(m=m, n=N, k=K, group=group, epilogue=epilogue, is_dependent=is_dependent)
    return Variant(macros=geometry.gemv(linear).macros, tensor_per_word=1)


def _gemm(m: int, group: int = 128, epilogue: int = 0, *, is_dependent: bool = False) -> Variant:
    linear = Linear(m=m, n=N, k=K, group=group, epilogue=epilogue, is_dependent=is_dependent)
    return Variant(
        macros=geometry.gemm(linear).macros, tensor_per_word=geometry.gemm_tokens(m) // 8
    )


KERNELS = {
    "w4_repack": Kernel(
        file="w4_repack.cu",
        parameters=(*("pointer",) * 4, *("int32",) * 4),
        variants=tuple(Variant(macros=geometry.repack(N, K, group).macros) for group in GROUPS),
    ),
    "w4_dequant": Kernel(
        file="w4_dequant.cu",
        parameters=(*("pointer",) * 2, *("int32",) * 4),
        variants=tuple(Variant(macros=geometry.dequant(N, K, group).macros) for group in GROUPS),
    ),
    "w4a16_gemv": Kernel(
        file="w4a16_gemv.cu",
        parameters=(*("pointer",) * 5, *("int32",) * 3),
        tensor="HMMA",
        variants=(
            *(_gemv(m) for m in (1, 2, 4, 8)),
            *(_gemv(1, epilogue=flag) for flag in (BIAS, RESIDUAL, SWIGLU, FLOAT_OUT)),
            _gemv(1, is_dependent=True),
            _gemv(1, 64),
            _gemv(1, 32),
            _gemv(8, 32),
        ),
    ),
    "w4a16_gemm": Kernel(
        file="w4a16_gemm.cu",
        parameters=(*("pointer",) * 5, *("int32",) * 3, *("pointer",) * 2),
        tensor="HMMA",
        variants=(
            *(_gemm(m) for m in (16, 32, 64, 128)),
            *(_gemm(128, epilogue=flag) for flag in (BIAS, RESIDUAL, SWIGLU, FLOAT_OUT)),
            _gemm(16, is_dependent=True),
            _gemm(16, 32),
            _gemm(128, 64),
            _gemm(128, 32),
        ),
    ),
}


def build(name: str, arch: str, macros: Mapping[str, int]) -> nvrtc.Cubin:
    """The kernel's code for an architecture, from the cache where it is there, and checked.

    Raises CompileError for an unknown kernel or architecture, code that NVRTC refuses, or code that
    lacks what the row says; CudaUnavailable where cuda-core or NVRTC is missing.
    """
    if name not in KERNELS:
        raise CompileError(f"[cuda] expected a kernel out of {', '.join(KERNELS)}, got {name!r}")
    row = KERNELS[name]
    if arch in ARCHITECTURES and arch not in row.architectures:
        raise CompileError(
            f"[{name}] expected an architecture out of {', '.join(row.architectures)}, got {arch}"
        )
    path = nvrtc.source_folder() / row.file
    compiled = nvrtc.compile_file(path, arch, macros, where=name)
    expected = [row.tensor] if row.tensor else []
    nvrtc.check_instructions(compiled, name, expected, where=name)
    return compiled
