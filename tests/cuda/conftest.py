"""Skips, with the reason, what needs NVRTC where it is missing; a cache of cubins of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench_kernels.cuda import cache
from edgebench_kernels.cuda.compile import nvrtc_version
from edgebench_kernels.cuda.errors import CudaUnavailable


@pytest.fixture(autouse=True)
def _nvrtc_or_skip(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("nvrtc") is None:
        return
    try:
        nvrtc_version()
    except CudaUnavailable as err:
        pytest.skip(str(err))


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of cubins."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return cache.cache_folder()
