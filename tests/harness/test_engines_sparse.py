"""Single-stream INT4 of a 2:4 model: whichever layout was timed also answers a whole batch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edgebench.engines_cpu import CpuEngines  # noqa: E402
from edgebench.kernel_engine import OFFLINE_BATCH  # noqa: E402
from edgebench.profiles import SPARSE_PATH  # noqa: E402
from edgebench_kernels.engine import build_int4, pack_24, pack_int4  # noqa: E402
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402
from tests.cuda import tiny_llama  # noqa: E402
from tests.engine.test_linear_sparse import pruned  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native]


def test_the_2_4_engine_takes_the_batches_that_a_likelihood_is_read_in() -> None:
    weights = tiny_llama.weights_of()
    tensors = {
        name: quantize_rtn(pruned(each.float().numpy()), 32)
        for name, each in weights.linears().items()
    }
    packed = pack_int4(weights, tensors)
    engines = CpuEngines.__new__(CpuEngines)
    engines._packed = {}
    engines._hold_sparse(weights, pack_24(weights, tensors, packed), 4)  # type: ignore[arg-type]
    assert engines._sparse is not None
    assert engines._packed.keys() == {SPARSE_PATH}
    ids = torch.arange(3 * OFFLINE_BATCH).view(OFFLINE_BATCH, 3) % weights.config.vocab_size
    dense = build_int4(weights, {}, packed=packed, max_batch=OFFLINE_BATCH, max_length=4)
    wide = zip(
        dense.forward_all(ids, [3] * OFFLINE_BATCH),
        engines._sparse.forward_all(ids, [3] * OFFLINE_BATCH),
        strict=True,
    )
    assert all(torch.equal(ours, theirs) for ours, theirs in wide)
