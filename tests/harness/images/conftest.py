"""The tiny `wake` in the catalog's place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgebench.images.prepared import PreparedImages
from edgebench_workloads.catalog import WORKLOADS, Workload


@pytest.fixture(scope="package")
def tiny_wake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workload]:
    """The catalog's `wake` is the tiny one."""
    pytest.importorskip("torch")
    from edgebench_workloads.wake import dataset
    from tests.harness.images.tiny_wake import make_tiny, shrink_sets

    with pytest.MonkeyPatch.context() as patch:
        for name in ("SCORED_COUNT", "CALIBRATION_COUNT"):
            patch.setattr(dataset, name, getattr(dataset, name))  # put back afterwards
        shrink_sets()
        workload = make_tiny(tmp_path_factory.mktemp("wake"))
        patch.setitem(WORKLOADS, "wake", workload)  # type: ignore[arg-type]
        yield workload


@pytest.fixture(scope="package")
def prepared(tiny_wake: Workload) -> PreparedImages:
    """The tiny `wake`, rounded to nearest."""
    from tests.harness.images.tiny_wake import made

    return made("rtn")
