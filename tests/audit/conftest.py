"""What the audit's tests with real engines share: they leave the kernels as they found them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def kernels_left_alone() -> Iterator[None]:
    """Gives back threads and tuning; one thread meanwhile, since torch's spin beside others."""
    torch = pytest.importorskip("torch")
    from edgebench.kernel_tuning import apply_tuning, present_tuning
    from edgebench_kernels import native

    before = torch.get_num_threads(), native.threads(), present_tuning()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    native.set_threads(before[1])
    apply_tuning(before[2])
