"""GPTQ's layout: words along the inputs, zero points in words along the outputs.

    qweight int32 [K/8, N]    nibble j of word (r, n) is input 8 r + j of output n
    qzeros  int32 [K/G, N/8]  nibble j of word (g, c) is the zero point of output 8 c + j:
                              itself in v2; in v1 the word minus 0x11111111, borrows and all
    scales  fp16  [K/G, N]    w = scale (code - zero)
    g_idx   int32 [K]         the group of each input; k // G without act-order

Source: GPTQModel 7, nn_modules/qlinear (pack), utils/model.py (convert_gptq_v1_to_v2_format and
its inverse: one 32-bit addition per word, so that a zero point of 0 borrows from its neighbour).
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
    require_symmetric,
    require_trivial_order,
    require_width,
    require_words,
)
from edgebench_kernels.checkpoints.options import flag, group_size, require_bits
from edgebench_kernels.checkpoints.words import PER_WORD, pack_words, unpack_words
from edgebench_kernels.formats import SYMMETRIC_ZERO, Int4Tensor, unpack_codes

_ONES = np.uint32(0x11111111)  # 1 in each nibble
V1, V2 = "gptq", "gptq_v2"  # what checkpoint_format says


def grouping(config: Mapping[str, Any]) -> Grouping:
    """See Format."""
    require_bits(config, "bits")
    if flag(config, "is_marlin_format", False):
        raise UnsupportedLayout("[checkpoint] GPTQ's marlin layout is not read here")
    if config.get("pack_dtype", "int32") != "int32":
        raise UnsupportedLayout(
            f"[checkpoint] GPTQ's pack_dtype {config['pack_dtype']!r} is not read here, only int32"
        )
    if config.get("dynamic"):
        raise UnsupportedLayout(
            "[checkpoint] GPTQ's per-module settings ('dynamic') are not read here"
        )
    return Grouping(
        group=group_size(config),
        is_symmetric=flag(config, "sym", True),
        needs_order=flag(config, "desc_act", False),
    )


def decode_v1(parts: Parts, grouping: Grouping) -> Int4Tensor:
    """See Format."""
    return _decode(parts, grouping, _ONES, V2)


def decode_v2(parts: Parts, grouping: Grouping) -> Int4Tensor:
    """See Format."""
    return _decode(parts, grouping, np.uint32(0), V1)


def encode_v1(tensor: Int4Tensor) -> dict[str, Any]:
    """See Format."""
    return _encode(tensor, _ONES)


def encode_v2(tensor: Int4Tensor) -> dict[str, Any]:
    """See Format."""
    return _encode(tensor, np.uint32(0))


def config_v1(tensors: Mapping[str, Int4Tensor], kept: Collection[str]) -> dict[str, Any]:
    """See Format."""
    return _config(tensors, V1)


def config_v2(tensors: Mapping[str, Int4Tensor], kept: Collection[str]) -> dict[str, Any]:
    """See Format."""
    return _config(tensors, V2)


def _decode(parts: Parts, grouping: Grouping, add: np.uint32, other: str) -> Int4Tensor:
    words = require_words(parts, "qweight")
    k, n = PER_WORD * words.shape[0], words.shape[1]
    require_width(n, "GPTQ", "N")
    group = grouping.of(k)
    groups = groups_of(k, group)
    require_trivial_order(parts.get("g_idx"), k, group, is_needed=grouping.needs_order)
    stored = require_array(parts, "qzeros", np.int32, (groups, n // PER_WORD))
    zero = unpack_words(_shifted(stored, add)).T
    if grouping.is_symmetric:
        require_symmetric(zero, f'if it was written as {other}, let "checkpoint_format" say so')
    scale = exact_scales(parts["scales"].T, (n, groups))
    return canonical(unpack_words(words.T), scale, zero, group)


def _encode(tensor: Int4Tensor, subtract: np.uint32) -> dict[str, Any]:
    n, k = tensor.shape
    require_width(n, "GPTQ", "N")
    require_width(k, "GPTQ", "K")
    zeros = pack_words(np.ascontiguousarray(tensor.zero.T))
    return {
        "qweight": np.ascontiguousarray(pack_words(unpack_codes(tensor)).T),
        "qzeros": _shifted(zeros, np.uint32(-int(subtract) % 2**32)),
        "scales": np.ascontiguousarray(tensor.scale.T),
        "g_idx": (np.arange(k) // tensor.group).astype(np.int32),
    }


def _shifted(words: NDArray[np.int32], add: np.uint32) -> NDArray[np.int32]:
    """Each word plus `add`, modulo 2^32."""
    return (np.ascontiguousarray(words).view(np.uint32) + add).view(np.int32)


def _config(tensors: Mapping[str, Int4Tensor], checkpoint_format: str) -> dict[str, Any]:
    return {
        "quant_method": "gptq",
        "checkpoint_format": checkpoint_format,
        "bits": 4,
        "group_size": one_group(tensors, "GPTQ"),
        "sym": all((tensor.zero == SYMMETRIC_ZERO).all() for tensor in tensors.values()),
        "desc_act": False,
    }


GPTQ_V1 = Format(
    name="gptq-v1",
    summary="GPTQ, zero points stored minus one (checkpoint_format gptq)",
    required=("qweight", "qzeros", "scales"),
    optional=("g_idx",),
    states_one_group=True,
    grouping=grouping,
    decode=decode_v1,
    encode=encode_v1,
    config=config_v1,
)
GPTQ_V2 = Format(
    name="gptq-v2",
    summary="GPTQ, zero points stored as they are (checkpoint_format gptq_v2)",
    required=("qweight", "qzeros", "scales"),
    optional=("g_idx",),
    states_one_group=True,
    grouping=grouping,
    decode=decode_v2,
    encode=encode_v2,
    config=config_v2,
)
