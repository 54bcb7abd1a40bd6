"""Existing 4-bit checkpoints into canonical tensors and back, bit for bit: the table of formats.

    config.json, *.safetensors -> `directory.read_int4` -> Int4Checkpoint -> `directory.write_int4`

To add a format: one file with a `Format`, a row in FORMATS, a branch in `detect`, a test whose
packing is written from the format's description.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from edgebench_kernels.checkpoints.awq_gemm import AWQ_GEMM
from edgebench_kernels.checkpoints.canonical_format import CANONICAL, QUANT_METHOD
from edgebench_kernels.checkpoints.compressed_tensors import COMPRESSED_TENSORS
from edgebench_kernels.checkpoints.gptq import GPTQ_V1, GPTQ_V2, V1, V2
from edgebench_kernels.checkpoints.layout import Format, UnsupportedLayout

FORMATS: Mapping[str, Format] = {
    "canonical": CANONICAL,
    "awq-gemm": AWQ_GEMM,
    "gptq-v1": GPTQ_V1,
    "gptq-v2": GPTQ_V2,
    "compressed-tensors": COMPRESSED_TENSORS,
}
_METHODS: Mapping[str, Format] = {  # quant_method, for those with one layout
    QUANT_METHOD: CANONICAL,
    "awq": AWQ_GEMM,
    "compressed-tensors": COMPRESSED_TENSORS,
}
_GPTQ_VERSIONS: Mapping[str, Format] = {V1: GPTQ_V1, V2: GPTQ_V2}  # checkpoint_format


def detect(quantization_config: Mapping[str, Any]) -> Format:
    """The format that a `quantization_config` names; UnsupportedLayout for any other."""
    method = quantization_config.get("quant_method")
    if method == "gptq":
        version = quantization_config.get(
            "checkpoint_format", quantization_config.get("format", V1)
        )
        if version not in _GPTQ_VERSIONS:
            raise UnsupportedLayout(
                f"[checkpoint] GPTQ's checkpoint_format {version!r} is not read here, only "
                f"{' and '.join(_GPTQ_VERSIONS)}"
            )
        return _GPTQ_VERSIONS[version]
    if not isinstance(method, str) or method not in _METHODS:
        known = ", ".join(sorted([*_METHODS, "gptq"]))
        raise UnsupportedLayout(
            f"[checkpoint] quant_method {method!r} is not read here, only {known}"
        )
    return _METHODS[method]


def find_format(name: str) -> Format:
    """The format of that name; UnsupportedLayout with the nearest one."""
    if name in FORMATS:
        return FORMATS[name]
    nearest = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise UnsupportedLayout(
        f"[checkpoint] expected a format out of {', '.join(FORMATS)}, got {name!r}{hint}"
    )
