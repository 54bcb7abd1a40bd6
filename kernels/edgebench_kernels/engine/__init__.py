"""The decode engine: Llama-family inference with pluggable linears, the same for fp16 and INT4.

Names are looked up when first used: `config` alone needs no torch, and the checker reads it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgebench_kernels.engine.arithmetic import (
        OpsChoice,
        OpsName,
        PathChoice,
        RegimeChoice,
        RegimeTiming,
    )
    from edgebench_kernels.engine.build import build_fp16, build_int4
    from edgebench_kernels.engine.cache import CacheCell
    from edgebench_kernels.engine.config import LlamaConfig, parse_config, read_config
    from edgebench_kernels.engine.fuse import fused_linears
    from edgebench_kernels.engine.imported import ImportedWeights, load_imported, require_whole
    from edgebench_kernels.engine.interface import DecodeEngine
    from edgebench_kernels.engine.linear_fp16 import Fp16Linear
    from edgebench_kernels.engine.linear_int4 import pack_int4
    from edgebench_kernels.engine.linear_sparse import pack_24
    from edgebench_kernels.engine.model import Engine
    from edgebench_kernels.engine.race import fastest_ops
    from edgebench_kernels.engine.regimes import probe
    from edgebench_kernels.engine.weights import (
        LlamaWeights,
        linear_shapes,
        load_reference,
        weights_from_tensors,
        with_norms,
        with_tensors,
    )

__all__ = [
    "CacheCell",
    "DecodeEngine",
    "Engine",
    "Fp16Linear",
    "ImportedWeights",
    "LlamaConfig",
    "LlamaWeights",
    "OpsChoice",
    "OpsName",
    "PathChoice",
    "RegimeChoice",
    "RegimeTiming",
    "build_fp16",
    "build_int4",
    "fastest_ops",
    "fused_linears",
    "linear_shapes",
    "load_imported",
    "load_reference",
    "pack_24",
    "pack_int4",
    "parse_config",
    "probe",
    "read_config",
    "require_whole",
    "weights_from_tensors",
    "with_norms",
    "with_tensors",
]

_FILES = {
    "arithmetic": ("OpsChoice", "OpsName", "PathChoice", "RegimeChoice", "RegimeTiming"),
    "build": ("build_fp16", "build_int4"),
    "cache": ("CacheCell",),
    "config": ("LlamaConfig", "parse_config", "read_config"),
    "fuse": ("fused_linears",),
    "imported": ("ImportedWeights", "load_imported", "require_whole"),
    "interface": ("DecodeEngine",),
    "linear_fp16": ("Fp16Linear",),
    "linear_int4": ("pack_int4",),
    "linear_sparse": ("pack_24",),
    "model": ("Engine",),
    "race": ("fastest_ops",),
    "regimes": ("probe",),
    "weights": (
        "LlamaWeights",
        "linear_shapes",
        "load_reference",
        "weights_from_tensors",
        "with_norms",
        "with_tensors",
    ),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
