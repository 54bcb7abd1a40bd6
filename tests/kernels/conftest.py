"""Tensors, activations and instruction sets for the kernel tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgebench_kernels import native
from edgebench_kernels.formats import Int4Tensor

# (N, K, G): one row, one lane more than a register, block borders, every group size, G = K, and a K
# that no block size divides (padded inputs).
SHAPES = [
    (1, 32, 32),
    (17, 128, 128),
    (64, 128, 64),
    (65, 256, 32),
    (130, 384, 128),
    (33, 96, 96),
    (40, 20, 20),
    (70, 512, 512),
]

MakeTensor = Callable[..., Int4Tensor]


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    """(N, K, G), each awkward in its own way."""
    return request.param


@pytest.fixture
def make_tensor() -> MakeTensor:
    """Random codes, scales of several magnitudes and zero points, as a canonical tensor."""

    def make(n: int, k: int, group: int, *, symmetric: bool = False, seed: int = 0) -> Int4Tensor:
        rng = np.random.default_rng(seed)
        zero = rng.integers(0, 16, (n, k // group), dtype=np.uint8)
        return Int4Tensor(
            qweight=rng.integers(0, 256, (n, k // 2), dtype=np.uint8),
            scale=rng.lognormal(-4, 1, (n, k // group)).astype(np.float16),
            zero=np.full_like(zero, 8) if symmetric else zero,
            group=group,
        )

    return make


@pytest.fixture
def restored_native() -> Iterator[None]:
    """Put ISA, threads and prefetch back after a test that changes them."""
    isa, threads, prefetch = native.isa(), native.threads(), native.prefetch_bytes()
    yield
    native.force_isa(isa)
    native.set_threads(threads)
    native.set_prefetch_bytes(prefetch)
