"""EdgeBench's own layout: the canonical tensors as bundles hold them, beside a config.json.

    qweight uint8 [N, K/2]  low nibble = even input
    scale   fp16  [N, K/G]
    zero    uint8 [N, K/G]  w = scale (code - zero)

Each tensor's own scales say its group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from edgebench_kernels.checkpoints.layout import Format, Grouping, Parts, exact_scales
from edgebench_kernels.checkpoints.options import require_bits
from edgebench_kernels.formats import MAX_CODE, Int4Tensor

QUANT_METHOD = "edgebench"


def grouping(config: Mapping[str, Any]) -> Grouping:
    """See Format."""
    require_bits(config, "bits")
    return Grouping(group=None, is_symmetric=False)


def decode(parts: Parts, grouping: Grouping) -> Int4Tensor:
    """See Format."""
    qweight, scale, zero = parts["qweight"], parts["scale"], parts["zero"]
    if qweight.ndim != 2 or scale.ndim != 2 or 0 in scale.shape:
        raise ValueError(f"qweight and scale must be [., .], got {qweight.shape}, {scale.shape}")
    k = 2 * qweight.shape[1]
    if k % scale.shape[1]:
        raise ValueError(f"scale must divide K={k} in groups, got {list(scale.shape)}")
    tensor = Int4Tensor(
        qweight=qweight,
        scale=exact_scales(scale, (qweight.shape[0], scale.shape[1])),
        zero=zero,
        group=k // scale.shape[1],
    )
    if (zero > MAX_CODE).any():
        raise ValueError(f"zero must be 0..{MAX_CODE}, got {int(zero.max())}")
    return tensor


def encode(tensor: Int4Tensor) -> dict[str, Any]:
    """See Format."""
    return {
        name: np.ascontiguousarray(getattr(tensor, name)) for name in ("qweight", "scale", "zero")
    }


def config(tensors: Mapping[str, Int4Tensor], kept: Collection[str]) -> dict[str, Any]:
    """See Format."""
    return {"quant_method": QUANT_METHOD, "bits": 4}


CANONICAL = Format(
    name="canonical",
    summary="EdgeBench's own tensors, as bundles hold them",
    required=("qweight", "scale", "zero"),
    grouping=grouping,
    decode=decode,
    encode=encode,
    config=config,
)
