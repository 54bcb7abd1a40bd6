"""compressed-tensors' "pack-quantized" layout: words along the inputs, scales beside the weight.

    weight_packed     int32 [N, ceil(K/8)]     nibble j of word (n, r) is input 8 r + j: code
    weight_scale      fp16, bf16, fp32 [N, K/G]
    weight_shape      int64 [2]                N, K
    weight_zero_point int32 [ceil(N/8), K/G]   asymmetric only: nibble j of word (r, g) is output
                                               8 r + j
    weight_g_idx      int32 [K]                act-order only

Codes and zero points are signed there, -8..7, and stored plus 8; so the stored ones are ours.
Source: compressed-tensors 0.20, compressors/pack_quantized (pack_to_int32, packed_dim 0 for zero
points) and quantization/quant_args.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from edgebench_kernels.checkpoints.layout import (
    Format,
    Grouping,
    Parts,
    Scheme,
    UnsupportedLayout,
    canonical,
    exact_scales,
    groups_of,
    require_array,
    require_trivial_order,
    require_words,
)
from edgebench_kernels.checkpoints.options import flag, require_bits
from edgebench_kernels.checkpoints.words import PER_WORD, pack_words, unpack_words
from edgebench_kernels.formats import GROUPS, SYMMETRIC_ZERO, Int4Tensor, unpack_codes

PACK_QUANTIZED = "pack-quantized"
_STRATEGIES = ("group", "channel")


def grouping(config: Mapping[str, Any]) -> Grouping:
    """See Format; every group of the config must be read, because tensors say which is theirs."""
    _refuse_format(config.get("format"))
    for name in ("kv_cache_scheme", "transform_config"):
        if config.get(name):
            raise UnsupportedLayout(f"[checkpoint] compressed-tensors' {name} is not read here")
    sparsity = config.get("sparsity_config") or {}
    if sparsity.get("format", "dense") != "dense":
        raise UnsupportedLayout(
            f"[checkpoint] compressed-tensors' sparsity {sparsity['format']!r} is not read here"
        )
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError("[checkpoint] compressed-tensors' config_groups must name a group")
    for one in groups.values():
        _require_scheme(one)
    orders = {one["weights"].get("actorder") for one in groups.values()}
    # "weight" orders the columns for rounding alone; "group" stores them so.
    return Grouping(
        group=None,
        is_symmetric=False,
        needs_order="group" in orders,
        schemes=frozenset(_scheme(one["weights"]) for one in groups.values()),
    )


def _scheme(weights: Mapping[str, Any]) -> Scheme:
    size = weights.get("group_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
        raise ValueError(f"[checkpoint] group_size must be a whole number or null, got {size!r}")
    return Scheme(
        group=-1 if weights.get("strategy") == "channel" else size,
        is_symmetric=flag(weights, "symmetric", True),
    )


def _require_scheme(scheme: object) -> None:
    if not isinstance(scheme, Mapping) or not isinstance(scheme.get("weights"), Mapping):
        raise ValueError("[checkpoint] a group of compressed-tensors must describe its weights")
    for name in ("input_activations", "output_activations"):
        if scheme.get(name):
            raise UnsupportedLayout(f"[checkpoint] quantized {name} are not read here")
    if scheme.get("format") is not None:
        _refuse_format(scheme["format"])
    weights = scheme["weights"]
    require_bits(weights, "num_bits")
    if weights.get("type", "int") != "int":
        raise UnsupportedLayout(f"[checkpoint] only type int is read here, got {weights['type']!r}")
    strategy = weights.get("strategy", "group")
    if strategy not in _STRATEGIES:
        raise UnsupportedLayout(f"[checkpoint] strategy must be group or channel, got {strategy!r}")


def _refuse_format(name: object) -> None:
    if name != PACK_QUANTIZED:
        raise UnsupportedLayout(
            f"[checkpoint] compressed-tensors' format {name!r} is not read here, only "
            f"{PACK_QUANTIZED!r}"
        )


def decode(parts: Parts, grouping: Grouping) -> Int4Tensor:
    """See Format; the group is K over the columns of the scales."""
    shape = require_array(parts, "weight_shape", np.int64, (2,))
    n, k = (int(side) for side in shape)
    words = require_words(parts, "weight_packed")
    if words.shape != (n, -(-k // PER_WORD)):
        raise ValueError(
            f"weight_packed must be [{n}, {-(-k // PER_WORD)}] by weight_shape, "
            f"got {list(words.shape)}"
        )
    scales = parts["weight_scale"]
    groups = scales.shape[1] if scales.ndim == 2 else 0
    if groups < 1 or k % groups:
        raise ValueError(f"weight_scale must divide K={k} in groups, got {list(scales.shape)}")
    group = k // groups
    groups_of(k, group)
    _require_said(parts, grouping.schemes, k, group)
    order = parts.get("weight_g_idx")
    require_trivial_order(order, k, group, is_needed=grouping.needs_order)
    if "weight_zero_point" in parts:
        rows = -(-n // PER_WORD)
        stored = require_array(parts, "weight_zero_point", np.int32, (rows, groups))
        zero = unpack_words(stored.T).T[:n]
    else:
        zero = np.full((n, groups), SYMMETRIC_ZERO, dtype=np.uint8)
    codes = unpack_words(words)[:, :k]
    return canonical(codes, exact_scales(scales, (n, groups)), zero, group)


def _require_said(parts: Parts, schemes: Collection[Scheme], k: int, group: int) -> None:
    """Refuse a linear whose group or whose zero points are not what any group of the config says.

    Symmetric codes whose file holds zero points all the same are read by them.
    """
    fitting = [scheme for scheme in schemes if scheme.has_group(k, group)]
    if schemes and not fitting:
        said = sorted({scheme.group for scheme in schemes if scheme.group is not None})
        raise ValueError(
            f"weight_scale must have one scale for each group_size of config.json, "
            f"{', '.join(map(str, said))}, got one for each {group} of K={k}; take the config.json "
            "that the weights were saved with"
        )
    if "weight_zero_point" not in parts and fitting and not any(s.is_symmetric for s in fitting):
        raise ValueError(
            "weight_zero_point must be there, because config.json says symmetric: false, and is "
            "missing; save the model again, or say symmetric: true if its zero points are all 8"
        )


def encode(tensor: Int4Tensor) -> dict[str, Any]:
    """See Format; symmetric alone, which is what transformers loads in all its versions."""
    n, k = tensor.shape
    if (tensor.zero != SYMMETRIC_ZERO).any():
        raise UnsupportedLayout(
            "compressed-tensors is written symmetric only, and these weights have zero points "
            "other than 8; quantize with symmetric=true, or write awq-gemm"
        )
    padded = np.zeros((n, -(-k // PER_WORD) * PER_WORD), dtype=np.uint8)
    padded[:, :k] = unpack_codes(tensor)
    return {
        "weight_packed": pack_words(padded),
        "weight_scale": np.ascontiguousarray(tensor.scale),
        "weight_shape": np.array([n, k], dtype=np.int64),
    }


def config(tensors: Mapping[str, Int4Tensor], kept: Collection[str]) -> dict[str, Any]:
    """See Format; one config group per group size; None there is all of K."""
    by_group: dict[int | None, list[str]] = {}
    for name, tensor in tensors.items():
        by_group.setdefault(tensor.group if tensor.group in GROUPS else None, []).append(name)
    return {
        "quant_method": "compressed-tensors",
        "format": PACK_QUANTIZED,
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{place}": {
                "targets": ["Linear"] if len(by_group) == 1 else sorted(names),
                "weights": {
                    "num_bits": 4,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "channel" if group is None else "group",
                    "group_size": group,
                },
            }
            for place, (group, names) in enumerate(by_group.items())
        },
        "ignore": sorted(kept),
    }


COMPRESSED_TENSORS = Format(
    name="compressed-tensors",
    summary="compressed-tensors, format pack-quantized; written symmetric only",
    required=("weight_packed", "weight_scale", "weight_shape"),
    optional=("weight_zero_point", "weight_g_idx"),
    holds_zeros=False,
    grouping=grouping,
    decode=decode,
    encode=encode,
    config=config,
)
