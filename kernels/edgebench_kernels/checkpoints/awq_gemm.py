"""AutoAWQ's "gemm" layout: words along the outputs, in the order that its GPU kernel unpacks.

    qweight int32 [K, N/8]    nibble i of word (k, c) is output 8 c + ORDER[i] of input k
    qzeros  int32 [K/G, N/8]  the same order, the zero point itself
    scales  fp16  [K/G, N]    w = scale (code - zero)

Source: AutoAWQ 0.2.9, awq/modules/linear/gemm.py (WQLinear_GEMM.from_linear) and
awq/utils/packing_utils.py (AWQ_ORDER).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.checkpoints.layout import (
    Format,
    Grouping,
    Parts,
    UnsupportedLayout,
    canonical,
    exact_scales,
    groups_of,
    one_group,
    require_array,
    require_width,
    require_words,
)
from edgebench_kernels.checkpoints.options import flag, group_size, require_bits
from edgebench_kernels.checkpoints.words import PER_WORD, pack_words, unpack_words
from edgebench_kernels.formats import Int4Tensor, unpack_codes

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # AutoAWQ awq/utils/packing_utils.py, AWQ_ORDER
_INVERSE = tuple(ORDER.index(place) for place in range(PER_WORD))


def grouping(config: Mapping[str, Any]) -> Grouping:
    """See Format."""
    for key in ("version", "format", "checkpoint_format"):  # AutoAWQ, transformers, GPTQModel
        layout = config.get(key)
        if layout is not None and str(layout).lower() != "gemm":
            raise UnsupportedLayout(
                f"[checkpoint] AWQ's layout {layout!r} ({key}) is not read here, only 'gemm'; "
                "save the model as gemm"
            )
    if config.get("backend") == "llm-awq":  # other backends name a kernel, not a layout
        raise UnsupportedLayout(
            "[checkpoint] AWQ's layout of llm-awq is not read here, only 'gemm'"
        )
    require_bits(config, "bits")
    # Without zero points the file still stores qzeros, all 8: they are read, and checked.
    return Grouping(group=group_size(config), is_symmetric=not flag(config, "zero_point", True))


def decode(parts: Parts, grouping: Grouping) -> Int4Tensor:
    """See Format."""
    words = require_words(parts, "qweight")
    k, n = words.shape[0], PER_WORD * words.shape[1]
    group = grouping.of(k)
    groups = groups_of(k, group)
    zeros = require_array(parts, "qzeros", np.int32, (groups, n // PER_WORD))
    scale = exact_scales(parts["scales"].T, (n, groups))
    zero = _outputs(zeros).T
    if grouping.is_symmetric and (zero != 8).any():
        raise UnsupportedLayout("zero_point is false and qzeros hold other zero points than 8")
    return canonical(_outputs(words).T, scale, zero, group)


def encode(tensor: Int4Tensor) -> dict[str, Any]:
    """See Format."""
    require_width(tensor.shape[0], "AutoAWQ gemm", "N")
    return {
        "qweight": _words(unpack_codes(tensor).T),
        "qzeros": _words(tensor.zero.T),
        "scales": np.ascontiguousarray(tensor.scale.T),
    }


def config(tensors: Mapping[str, Int4Tensor], kept: Collection[str]) -> dict[str, Any]:
    """See Format."""
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": one_group(tensors, "AutoAWQ gemm"),
        "zero_point": True,
        "modules_to_not_convert": sorted(kept) or None,
    }


def _outputs(words: NDArray[np.int32]) -> NDArray[np.uint8]:
    """int32 [R, N/8] -> codes uint8 [R, N], the outputs in their own order."""
    nibbles = unpack_words(words).reshape(len(words), -1, PER_WORD)
    return nibbles[:, :, _INVERSE].reshape(len(words), -1)


def _words(codes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """codes uint8 [R, N] -> int32 [R, N/8], the inverse of `_outputs`."""
    split = codes.reshape(codes.shape[0], -1, PER_WORD)
    return pack_words(split[:, :, ORDER].reshape(codes.shape))


AWQ_GEMM = Format(
    name="awq-gemm",
    summary="AutoAWQ, version gemm",
    required=("qweight", "qzeros", "scales"),
    states_one_group=True,
    grouping=grouping,
    decode=decode,
    encode=encode,
    config=config,
)
