"""Which kernel multiplies how many rows: a table for each path and architecture.

A path is the arithmetic that was asked for; a kernel is what executes it. Nothing chooses while a
product runs: the same rows on the same architecture always take the same kernel, and an engine's
`describe` says which.

Where cuBLAS on dequantized weights takes over is reasoned, not measured. It moves 2.52 more bytes a
weight, and saves 2 M FLOP a weight times (1 / e - 1), where e is the part of cuBLAS's rate that the
kernel before it reaches; they meet at M = 1.26 e / (1 - e) peak / bandwidth. mma.sync is the
fastest there is up to sm_89 (e = 0.85 at best); on Hopper warp groups' products are (e = 0.9).
"""

from __future__ import annotations

from dataclasses import dataclass

GEMV = "w4a16_gemv"
GEMM = "w4a16_gemm"
WGMMA = "w4a16_wgmma"
CLUSTER = "w4a16_cluster"
MULTICAST = "w4a16_multicast"
CUBLAS = "w4_dequant+cublas"
A8_GEMM = "quantize+w4a8_gemm"
A8_WGMMA = "quantize+w4a8_wgmma"
A8_GEMM_TOKEN = "quantize-token+w4a8_gemm"
A8_WGMMA_TOKEN = "quantize-token+w4a8_wgmma"

ANY = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A kernel for up to so many rows."""

    rows: int
    kernel: str


# peak / bandwidth, FLOP a byte: A100 200, RTX 3090 75 (fp32 sums), Orin 207, RTX 4090 165, H200 180
W4A16: dict[str, tuple[Choice, ...]] = {
    "sm_80": (Choice(8, GEMV), Choice(1024, GEMM), Choice(ANY, CUBLAS)),
    "sm_86": (Choice(8, GEMV), Choice(512, GEMM), Choice(ANY, CUBLAS)),
    "sm_87": (Choice(8, GEMV), Choice(1024, GEMM), Choice(ANY, CUBLAS)),
    "sm_89": (Choice(8, GEMV), Choice(1024, GEMM), Choice(ANY, CUBLAS)),
    "sm_90a": (Choice(16, GEMV), Choice(2048, WGMMA), Choice(ANY, CUBLAS)),  # raced on an H200
}


def _w4a8(gemm: str, wgmma: str) -> dict[str, tuple[Choice, ...]]:
    everywhere = dict.fromkeys(W4A16, (Choice(ANY, gemm),))
    return {**everywhere, "sm_90a": (Choice(63, gemm), Choice(ANY, wgmma))}


PATHS: dict[str, dict[str, tuple[Choice, ...]]] = {
    "w4a16": W4A16,
    "w4a8": _w4a8(A8_GEMM, A8_WGMMA),
    "w4a8-token": _w4a8(A8_GEMM_TOKEN, A8_WGMMA_TOKEN),
}


def kernel_for(path: str, arch: str, rows: int) -> str:
    """The kernel of a product of so many rows; ValueError for a path there is not."""
    return next(choice.kernel for choice in choices(path, arch) if rows <= choice.rows)


def choices(path: str, arch: str) -> tuple[Choice, ...]:
    """The kernels of a path by rows; ValueError for a path there is not."""
    if path not in PATHS:
        raise ValueError(f"[cuda] path must be one of {', '.join(PATHS)}, got {path!r}")
    return PATHS[path][arch]


def describe(path: str, arch: str) -> str:
    """For the record, e.g. 'w4a16/sm_90a (w4a16_gemv@1-8 w4a16_gemm@9-64 ...)'."""
    parts, first = [], 1
    for choice in choices(path, arch):
        rows = f">{first - 1}" if choice.rows == ANY else f"{first}-{choice.rows}"
        parts.append(
            choice.kernel if (first, choice.rows) == (1, ANY) else f"{choice.kernel}@{rows}"
        )
        first = choice.rows + 1
    return f"{path}/{arch} ({' '.join(parts)})"
