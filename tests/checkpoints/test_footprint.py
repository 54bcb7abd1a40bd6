"""The memory that a conversion is said to take is no less than what it takes, nor far more."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.checkpoints import FORMATS  # noqa: E402
from edgebench_kernels.checkpoints.directory import (  # noqa: E402
    Int4Checkpoint,
    read_int4,
    write_int4,
)
from edgebench_kernels.checkpoints.footprint import converting_bytes  # noqa: E402
from edgebench_kernels.formats import Int4Tensor  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("to", [name for name in FORMATS if name != "canonical"])
def test_the_bound_on_memory_holds(tmp_path, to: str) -> None:
    """By numpy's own count of its bytes; torch's are mapped."""
    large = Int4Tensor(
        qweight=np.zeros((256, 1024), np.uint8),
        scale=np.ones((256, 64), np.float16),
        zero=np.full((256, 64), 8, np.uint8),
        group=32,
    )
    checkpoint = Int4Checkpoint(config={}, quantized={"a": large}, tensors={})
    write_int4(checkpoint, FORMATS[to], tmp_path / "large")
    for target in (FORMATS["canonical"], FORMATS[to]):
        bound = converting_bytes(tmp_path / "large", target)
        tracemalloc.start()
        write_int4(read_int4(tmp_path / "large")[1], target, tmp_path / target.name)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0.5 * bound < taken < bound
