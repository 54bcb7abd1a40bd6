"""The linears of a pruned model whose INT4 weights are 2:4, packed so that one token reads less."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench_kernels.engine.fused_tensors import fused_tensors
from edgebench_kernels.engine.linear_int4 import PackedLinear
from edgebench_kernels.engine.weights import LlamaWeights
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.linear import Int4Linear
from edgebench_kernels.sparse24 import is_24


def pack_24(
    weights: LlamaWeights,
    quantized: Mapping[str, Int4Tensor],
    packed: Mapping[str, PackedLinear],
) -> dict[str, PackedLinear]:
    """What is 2:4 in that layout, the rest of `packed` (by `pack_int4` on a CPU) shared.

    Empty where no linear is 2:4. The outputs are those of `packed` to the bit; only the time
    differs, see kernels/README.md.
    """
    sparse: dict[str, PackedLinear] = {
        name: Int4Linear.from_tensor(tensor, layout="2:4")
        for name, tensor in fused_tensors(weights, quantized)
        if is_24(tensor)
    }
    return {name: sparse.get(name, linear) for name, linear in packed.items()} if sparse else {}
