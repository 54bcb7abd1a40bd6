"""The GPU's engines with changed weights: built by the same calls, kernels not launched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from edgebench.audit.noise import NoisyLayer  # noqa: E402
from edgebench.engines_cuda import CudaEngines  # noqa: E402
from edgebench.transform.quantized import Folded  # noqa: E402
from tests.cuda import tiny_llama  # noqa: E402
from tests.cuda.emulated_launcher import Collector  # noqa: E402

pytestmark = pytest.mark.torch


def test_a_gpus_engine_is_built_again_around_other_weights(tmp_path: Path) -> None:
    prepared = tiny_llama.prepared_in(tmp_path, Folded())
    engines = CudaEngines(Collector(), prepared, ("fp16", "int4"))  # type: ignore[arg-type]
    changed: list[str] = []

    def change(name: str, array: np.ndarray) -> np.ndarray:
        noisy = NoisyLayer(layer=0, seed=1)(name, array)
        if noisy is not array:
            changed.append(name)
            assert noisy.shape == array.shape
            assert noisy.dtype == array.dtype
            assert not np.array_equal(noisy, array)
            # Not as fp16: NumPy 2.4 sorts those wrongly on CPUs with AVX-512 ICL, not SPR.
            wide = [np.sort(one.astype(np.float32), axis=1) for one in (noisy, array)]
            assert np.array_equal(*wide)
        return noisy

    for kernel in ("fp16", "int4"):
        one = engines.for_scenario(kernel, "single-stream")  # type: ignore[arg-type]
        changed.clear()
        other = engines.changed(one, change)
        assert other.engine is not one.engine
        assert other.engine.describe() == one.engine.describe()
        assert other.weight_bytes == one.weight_bytes
        assert len(changed) == 7, "the linears of one layer"
        assert all("layers.0." in name for name in changed)
