"""The linears that are timed: those of a layer of Llama-3-8B, and at which numbers of tokens."""

from __future__ import annotations

from edgebench_kernels.cuda import paths

SHAPES = {
    "qkv": (6144, 4096),
    "o": (4096, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
}
"""N and K."""

TOKENS = (1, 16, 64, 256, 2048)
GROUP = 128

GEMV_TOKENS = 16
DEQUANTIZE_FROM = 64
"""Tokens from which dequantizing all weights first can pay: before, it moves five times as much."""

WGMMA_FROM = 16
MULTICAST_FROM = 256
"""Tokens from which clusters of two rows of blocks with all of K can fill a GPU."""
BY_ROW = (paths.A8_GEMM_TOKEN, paths.A8_WGMMA_TOKEN)
"""Kernels that are timed on weights with a scale for each row, too."""

CLUSTER_MOST = 64
"""Tokens of which these linears' parts of K fit in shared memory, in passes where they must."""


def is_applicable(kernel: str, arch: str, m: int) -> bool:
    """Whether a kernel of ours is timed at so many tokens on an architecture."""
    if kernel == paths.CLUSTER:
        return arch == "sm_90a" and m <= CLUSTER_MOST
    if kernel == paths.MULTICAST:
        return arch == "sm_90a" and m >= MULTICAST_FROM
    if "wgmma" in kernel:
        return arch == "sm_90a" and m >= WGMMA_FROM
    if kernel == paths.GEMV:
        return m <= GEMV_TOKENS
    if kernel == paths.CUBLAS:
        return m >= DEQUANTIZE_FROM
    return True
