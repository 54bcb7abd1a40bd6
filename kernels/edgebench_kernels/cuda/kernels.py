"""The table of GPU kernels: what each is compiled from, what it is passed, what its code must hold.

Adding a kernel = one file in `csrc/cuda`, one row here, and the census written anew:
`python -m edgebench_kernels.cuda.census --write`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgebench_kernels.cuda import (
    cluster_geometry,
    geometry,
    large_geometry,
    multicast_geometry,
)
from edgebench_kernels.cuda import compile as nvrtc
from edgebench_kernels.cuda import step_geometry as step
from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.errors import CompileError
from edgebench_kernels.cuda.geometry import (
    BIAS,
    FLOAT_OUT,
    NORMED,
    RESIDUAL,
    STREAM,
    SWIGLU,
    Launch,
    Linear,
)
from edgebench_kernels.cuda.large_geometry import A8Scales
from edgebench_kernels.cuda.step_geometry import Codes, DecodeAttention
from edgebench_kernels.formats import GROUPS

N, K = 4096, 4096  # of linears, whose macros do not depend on them; and of rows, whose do
FFN = 14336
EPILOGUES = (BIAS | RESIDUAL, SWIGLU, FLOAT_OUT)
NORMS = (STREAM, NORMED | SWIGLU, NORMED | FLOAT_OUT)
GPUS = ((132, 227 << 10), (16, 163 << 10), (128, 99 << 10))
"""Multiprocessors and shared memory of an H200, an AGX Orin and an RTX 4090, to tune for."""


PARAMETERS = {"pointer": "Q", "int32": "i", "int64": "q", "float32": "f", "tensor_map": "128s"}
"""Type of a kernel's parameter -> its code in `struct`, which packs it at launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One set of macros that the census watches.

    tensor_per_word: tensor-core instructions that one packed word (256 weights in a warp) needs, so
    that the census can count words; None where the kernel reads no packed weights in a loop.
    """

    macros: geometry.Macros
    tensor_per_word: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A row: the kernel of that name in `file`. `tensor`: the operation that its code must hold."""

    file: str
    parameters: tuple[str, ...]
    variants: tuple[Variant, ...]
    tensor: str | None = None
    architectures: tuple[str, ...] = tuple(ARCHITECTURES)


def _attention(head_dim: int, *, is_int8: bool = False, is_fused: bool = True) -> DecodeAttention:
    """Of one row, with the 32 heads on 8 of Llama 3's 8B model."""
    return DecodeAttention(
        rows=1, heads=32, kv_heads=8, head_dim=head_dim, is_int8=is_int8, is_fused=is_fused
    )


def _plain(*launches: Launch) -> tuple[Variant, ...]:
    return tuple(Variant(macros=launch.macros) for launch in launches)


def _gemv(
    m: int, group: int = 128, epilogue: int = 0, *, is_dependent: bool = False
) -> tuple[Variant, ...]:
    """As it is tuned for each of GPUS; beside the words' products there is one with ones."""
    linear = Linear(m=m, n=N, k=K, group=group, epilogue=epilogue, is_dependent=is_dependent)
    tunings = [geometry.gemv_tuning(linear, *gpu) for gpu in GPUS]
    found = dict.fromkeys(geometry.gemv(linear, tuning).macros for tuning in tunings)
    return tuple(
        Variant(macros=macros, tensor_per_word=-(-m // 8) * (1 + 1 / dict(macros)["EB_TILES"]))
        for macros in found
    )


def _gemm(
    m: int, group: int = 128, epilogue: int = 0, *, is_dependent: bool = False
) -> tuple[Variant, ...]:
    """As it is tuned for each of GPUS."""
    linear = Linear(m=m, n=N, k=K, group=group, epilogue=epilogue, is_dependent=is_dependent)
    tunings = [geometry.gemm_tuning(linear, *gpu) for gpu in GPUS]
    found = dict.fromkeys(geometry.gemm(linear, tuning).macros for tuning in tunings)
    return tuple(
        Variant(macros=macros, tensor_per_word=dict(macros)["EB_TOKENS"] // 8) for macros in found
    )


def _a8(m: int, group: int = 128, epilogue: int = 0, scales: A8Scales = A8Scales.GROUP) -> Variant:
    """An instruction multiplies two words by 8 tokens."""
    linear = Linear(m=m, n=N, k=K, group=group, epilogue=epilogue)
    tuning = large_geometry.a8_tuning(linear, *GPUS[0])
    launch = large_geometry.w4a8_gemm(linear, tuning, scales)
    macros = dict(launch.macros)
    warp_tokens = macros["EB_TOKENS"] // macros["EB_TOKEN_WARPS"]
    return Variant(macros=launch.macros, tensor_per_word=warp_tokens / 16)


def _wgmma(m: int, group: int = 128, epilogue: int = 0, *, n: int = 2 * FFN) -> Variant:
    """An instruction multiplies a word of each of 4 warps by all tokens."""
    linear = Linear(m=m, n=n, k=K, group=group, epilogue=epilogue)
    launch = large_geometry.w4a16_wgmma(linear, large_geometry.wgmma_tuning(linear, *GPUS[0]))
    return Variant(macros=launch.macros, tensor_per_word=1)


def _multicast(group: int = 128, epilogue: int = 0, **choices: int) -> Variant:
    """An instruction multiplies a word of each of 4 warps by all tokens."""
    linear = Linear(m=2048, n=2 * FFN, k=K, group=group, epilogue=epilogue)
    tuning = multicast_geometry.multicast_tuning(linear, GPUS[0][1], **choices)
    launch = multicast_geometry.w4a16_multicast(linear, tuning)
    return Variant(macros=launch.macros, tensor_per_word=1)


def _cluster(m: int, group: int = 128, epilogue: int = 0, *, n: int = N) -> Variant:
    """An instruction multiplies a word by 8 tokens."""
    linear = Linear(m=m, n=n, k=K, group=group, epilogue=epilogue)
    tuning = cluster_geometry.cluster_tuning(linear, *GPUS[0])
    assert tuning is not None, "fits an H200"
    launch = cluster_geometry.w4a16_cluster(linear, tuning)
    return Variant(macros=launch.macros, tensor_per_word=dict(launch.macros)["EB_TOKENS"] // 8)


def _raced(tokens: int, tiles: int, stages: int, producers: int, batch: int) -> Variant:
    """A choice that `check/choices.py` races: eight products under way."""
    linear = Linear(m=tokens, n=N, k=K, group=128)
    tuning = large_geometry.WgmmaTuning(
        tokens=tokens,
        tiles=tiles,
        stages=stages,
        producers=producers,
        batch=batch,
        batches=8 // batch,
    )
    return Variant(macros=large_geometry.w4a16_wgmma(linear, tuning).macros, tensor_per_word=1)


def _a8_wgmma(
    m: int,
    group: int = 128,
    epilogue: int = 0,
    *,
    n: int = 2 * FFN,
    scales: A8Scales = A8Scales.GROUP,
) -> Variant:
    """An instruction multiplies two words of each of 4 warps by all tokens."""
    linear = Linear(m=m, n=n, k=K, group=group, epilogue=epilogue)
    tuning = large_geometry.a8_wgmma_tuning(linear, *GPUS[0])
    launch = large_geometry.w4a8_wgmma(linear, tuning, scales)
    return Variant(macros=launch.macros, tensor_per_word=0.5)


KERNELS = {
    "w4_repack": Kernel(
        file="w4_repack.cu",
        parameters=(*("pointer",) * 4, *("int32",) * 4),
        variants=_plain(*(geometry.repack(N, K, group) for group in GROUPS)),
    ),
    "w4_dequant": Kernel(
        file="w4_dequant.cu",
        parameters=(*("pointer",) * 2, *("int32",) * 4),
        variants=_plain(*(geometry.dequant(N, K, group) for group in GROUPS)),
    ),
    "w4a16_gemv": Kernel(
        file="w4a16_gemv.cu",
        parameters=(*("pointer",) * 5, *("int32",) * 3, *("pointer",) * 3, "int32", "float32"),
        tensor="HMMA",
        variants=(
            *(variant for m in (1, 2, 4, 8) for variant in _gemv(m)),
            *(_gemv(1, epilogue=flags)[0] for flags in (*EPILOGUES, *NORMS)),
            _gemv(1, is_dependent=True)[0],
            *(variant for m, group in ((1, 64), (1, 32), (8, 32)) for variant in _gemv(m, group)),
        ),
    ),
    "w4a16_gemm": Kernel(
        file="w4a16_gemm.cu",
        parameters=(*("pointer",) * 5, *("int32",) * 3, *("pointer",) * 2),
        tensor="HMMA",
        variants=(
            *(variant for m in (16, 32, 64) for variant in _gemm(m)),
            *(_gemm(64, epilogue=flags)[0] for flags in EPILOGUES),
            _gemm(16, is_dependent=True)[0],
            *(variant for group in (64, 32) for m in (16, 64) for variant in _gemm(m, group)),
        ),
    ),
    "w4a8_gemm": Kernel(
        file="w4a8_gemm.cu",
        parameters=(*("pointer",) * 6, *("int32",) * 3, *("pointer",) * 2),
        tensor="IMMA",
        variants=(
            *(_a8(m) for m in (16, 32, 64, 128)),
            _a8(128, scales=A8Scales.TOKEN),
            *(_a8(m, scales=A8Scales.ROW) for m in (16, 128)),
            *(_a8(128, epilogue=flags) for flags in EPILOGUES),
            *(_a8(m, group) for group in (64, 32) for m in (16, 128)),
        ),
    ),
    "w4a16_wgmma": Kernel(
        file="w4a16_wgmma.cu",
        parameters=(*("pointer",) * 5, *("int32",) * 3),
        tensor="HGMMA",
        architectures=("sm_90a",),
        variants=(
            *(_wgmma(m, n=n) for m in (64, 128) for n in (N, 2 * FFN)),
            *(_wgmma(128, epilogue=flags) for flags in EPILOGUES),
            *(_wgmma(128, group) for group in (64, 32)),
            *(_raced(64, tiles, 6, producers, 4) for tiles in (1, 2) for producers in (2, 4)),
            *(_raced(128, 2, 4, *one) for one in ((0, 1), (0, 2), (4, 1), (4, 2), (4, 4))),
            _raced(256, 1, 3, 4, 4),
        ),
    ),
    "w4a16_multicast": Kernel(
        file="w4a16_multicast.cu",
        parameters=("tensor_map", *("pointer",) * 4, *("int32",) * 3),
        tensor="HGMMA",
        architectures=("sm_90a",),
        variants=(
            *(_multicast(sharers=sharers) for sharers in (2, 4)),
            _multicast(batch=1, batches=4),
            *(_multicast(epilogue=flags) for flags in EPILOGUES),
            _multicast(64),
            _multicast(32),
        ),
    ),
    "w4a16_cluster": Kernel(
        file="w4a16_cluster.cu",
        parameters=(*("pointer",) * 5, *("int32",) * 3),
        tensor="HMMA",
        architectures=("sm_90a",),
        variants=tuple(
            dict.fromkeys(
                (
                    *(_cluster(m, n=n) for m in (8, 16, 32, 64) for n in (N, 2 * FFN)),
                    *(_cluster(16, epilogue=flags) for flags in EPILOGUES),
                    *(_cluster(16, group) for group in (64, 32)),
                )
            )
        ),
    ),
    "w4a8_wgmma": Kernel(
        file="w4a8_wgmma.cu",
        parameters=(*("pointer",) * 6, *("int32",) * 3),
        tensor="IGMMA",
        architectures=("sm_90a",),
        variants=(
            *(_a8_wgmma(m, n=n) for m in (64, 128) for n in (N, 2 * FFN)),
            _a8_wgmma(128, scales=A8Scales.TOKEN),
            *(_a8_wgmma(128, n=n, scales=A8Scales.ROW) for n in (N, 2 * FFN)),
            *(_a8_wgmma(128, epilogue=flags) for flags in EPILOGUES),
            *(_a8_wgmma(128, group) for group in (64, 32)),
        ),
    ),
    "embed": Kernel(
        file="embed.cu",
        parameters=(*("pointer",) * 4, *("int32",) * 2),
        variants=_plain(step.embed(1), step.embed(1, is_wide=False, is_float=False)),
    ),
    "rms_norm": Kernel(
        file="rms_norm.cu",
        parameters=(*("pointer",) * 7, *("int32",) * 2, "float32"),
        variants=_plain(
            *(step.rms_norm(1, N, delta=delta) for delta in range(3)),
            step.rms_norm(1, N, is_float=False),
            step.rms_norm(1, N, codes=Codes(group=128)),
            step.rms_norm(1, N, codes=Codes(group=32, is_token_scale=True)),
        ),
    ),
    "swiglu": Kernel(
        file="swiglu.cu",
        parameters=(*("pointer",) * 5, *("int32",) * 2),
        variants=_plain(
            step.swiglu(1, FFN),
            step.swiglu(1, FFN, codes=Codes(group=128)),
            step.swiglu(1, FFN, codes=Codes(group=32, is_token_scale=True)),
        ),
    ),
    "quantize": Kernel(
        file="quantize.cu",
        parameters=(*("pointer",) * 4, *("int32",) * 2),
        variants=_plain(
            *(step.quantize(1, N, Codes(group=group)) for group in GROUPS),
            step.quantize(1, FFN, Codes(group=128, is_token_scale=True)),
        ),
    ),
    "rope_append": Kernel(
        file="rope_append.cu",
        parameters=(*("pointer",) * 7, *("int32",) * 4),
        variants=_plain(
            step.rope_append(1, _attention(128)),
            step.rope_append(1, _attention(128, is_int8=True)),
            step.rope_append(1, _attention(64)),
        ),
    ),
    "decode_attention": Kernel(
        file="decode_attention.cu",
        parameters=(*("pointer",) * 9, *("int32",) * 4, "float32"),
        tensor="HMMA",
        variants=_plain(
            step.decode_attention(_attention(128)),
            step.decode_attention(_attention(128, is_int8=True)),
            step.decode_attention(_attention(128, is_fused=False)),
            step.decode_attention(_attention(64)),
            step.decode_attention(_attention(256)),
        ),
    ),
    "argmax": Kernel(
        file="argmax.cu",
        parameters=(*("pointer",) * 5, "int32"),
        variants=_plain(step.argmax(1, N), step.argmax(1, N, is_float=True)),
    ),
    "advance": Kernel(
        file="advance.cu",
        parameters=(*("pointer",) * 7, *("int32",) * 4),
        variants=_plain(step.advance()),
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
