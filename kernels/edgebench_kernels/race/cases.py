"""What is raced: one weight matrix, one number of tokens, and what a contender must offer."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels import ceilings
from edgebench_kernels.formats import Int4Tensor, check_group

SHAPES = ((2048, 2048), (8192, 2048), (4096, 4096), (14336, 4096), (4096, 14336))
BATCHES = (1, 4, 16, 64, 256, 512)
BYTES_PER_ELEMENT = 16  # of one matrix while it is made: float32 twice, codes, int32 codes
MEMORY_INFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One multiplication: y [M, N] = x [M, K] W^T, W in groups of G along K."""

    n: int
    k: int
    m: int
    group: int


class Contender(Protocol):
    """Somebody who multiplies. One call runs `products` whole products, each on other weights."""

    op: str  # w4a16, w4a8, bf16 or fp16: what the arithmetic is
    group: int | None  # None for weights that are not INT4
    weight_bytes: int | None  # that one product reads; None where only the peer knows
    ceiling: str | None  # the arithmetic ceiling that applies, or None
    operations: int  # executed per multiply-add: 2, or 4 where activations run as two bytes
    products: int

    def prepare(self, x: NDArray[np.float32]) -> None:
        """Take the next activations."""

    def call(self) -> None:
        """Multiply: what is timed."""

    def first_output(self) -> NDArray[np.float32]:
        """y [M, N] of x and the case's own weights; not timed."""


def check_shape(n: int, k: int, group: int) -> None:
    """Raise ValueError unless a weight [N, K] in groups of `group` can be made."""
    if n < 1:
        raise ValueError(f"[kernels] N must be at least 1, got N={n}")
    check_group(k, group, where="kernels")


def copies_past_cache(size_bytes: int) -> int:
    """Copies of a weight that rotate through memory, so that no call finds its own in a cache."""
    return max(2, -(-rotated_bytes() // max(1, size_bytes)))


@functools.lru_cache(maxsize=1)
def rotated_bytes() -> int:
    """Bytes of all copies of a weight together, the same for every contender of a process."""
    return ceilings.bytes_past_cache()


def needed_bytes(n: int, k: int, m: int, with_peers: bool) -> int:
    """Memory that racing one shape takes, estimated from above."""
    packed = n * k // 2
    matrices = 7 if with_peers else 1
    copied = copies_past_cache(packed) * (packed + (2 * m * n * 4 if with_peers else 0))
    return n * k * BYTES_PER_ELEMENT + matrices * copied + 8 * m * (n + k)


def available_bytes() -> int | None:
    """Memory that this machine can still give, or None where it does not say."""
    try:
        lines = MEMORY_INFO.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def random_tensor(n: int, k: int, group: int) -> Int4Tensor:
    """Random codes, scales and zero points, the same each time: speed does not depend on them."""
    rng = np.random.default_rng(0)
    groups = k // group
    return Int4Tensor(
        qweight=rng.integers(0, 256, (n, k // 2), dtype=np.uint8),
        scale=rng.uniform(0.005, 0.02, (n, groups)).astype(np.float16),
        zero=rng.integers(5, 11, (n, groups), dtype=np.uint8),
        group=group,
    )


def random_activations(m: int, k: int) -> NDArray[np.float32]:
    """Normal activations x [M, K], the same ones each time."""
    return np.random.default_rng(1).standard_normal((m, k), np.float32)
