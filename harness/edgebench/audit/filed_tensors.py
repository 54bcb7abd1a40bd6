"""Filed tensors: quantized weights and what was folded, read out of safetensors files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from edgebench.checker.tensors import PARTS
from edgebench.errors import BundleError
from edgebench.transform.quantized import SCALE, SUFFIX, Folded
from edgebench_kernels.formats import Int4Tensor


def read_tensors(path: Path, names: Sequence[str]) -> dict[str, Int4Tensor]:
    """Read canonical tensors out of a safetensors file; BundleError says what is wrong."""
    found = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in names:
                qweight, scale, zero = (file.get_tensor(f"{name}.{part}") for part in PARTS)
                group = 2 * qweight.shape[1] // scale.shape[1]
                found[name] = Int4Tensor(qweight=qweight, scale=scale, zero=zero, group=group)
    except (SafetensorError, OSError, TypeError, ValueError, IndexError, ZeroDivisionError) as err:
        raise BundleError(f"[audit] expected the ledger's tensors in {path}, got {err}") from err
    return found


def read_folded(path: Path) -> Folded:
    """Read what a transform folded; BundleError says what is wrong."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as err:
        raise BundleError(f"[audit] expected folded arrays in {path}, got {err}") from err
    return Folded(
        norms={k.removesuffix(SUFFIX): a for k, a in arrays.items() if k.endswith(SUFFIX)},
        scales={k.removesuffix(SCALE): a for k, a in arrays.items() if k.endswith(SCALE)},
    )
