"""Reading single fields of a `config.json`, each fault named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MOST = 1 << 31  # ours: of any count; a model's shape is multiplied out before memory is looked at


def count(
    raw: Mapping[str, Any], name: str, default: int | None = None, *, most: int = MOST
) -> int:
    """A whole number in 1..most; absent and null are the default."""
    value = raw.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"[engine] {name} must be a whole number >= 1, got {value!r}")
    if value > most:
        raise ValueError(f"[engine] {name} must be at most {most}, got {value}")
    return value


def positive(raw: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A finite number > 0."""
    value = raw.get(name, default)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"[engine] {name} must be a positive number, got {value!r}")
    return float(value)


def flag(raw: Mapping[str, Any], name: str) -> bool:
    """True or false; absent is false."""
    value = raw.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"[engine] {name} must be true or false, got {value!r}")
    return value
