"""Reading single options of a checkpoint's `quantization_config`, each fault named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebench_kernels.checkpoints.layout import UnsupportedLayout
from edgebench_kernels.formats import GROUPS


def require_bits(config: Mapping[str, Any], name: str) -> None:
    """Refuse any number of bits but 4."""
    bits = config.get(name)
    if bits != 4 or isinstance(bits, bool):
        raise UnsupportedLayout(f"[checkpoint] only 4 bits are read here, got {name}={bits!r}")


def group_size(config: Mapping[str, Any], name: str = "group_size") -> int:
    """Inputs that share a scale; -1 is all of K."""
    group = config.get(name)
    if group == -1 or (group in GROUPS and not isinstance(group, float)):
        return int(group)
    raise UnsupportedLayout(
        f"[checkpoint] {name} must be 32, 64, 128 or -1 (all of K), got {group!r}"
    )


def flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    """One option that is true or false."""
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"[checkpoint] {name} must be true or false, got {value!r}")
    return value
