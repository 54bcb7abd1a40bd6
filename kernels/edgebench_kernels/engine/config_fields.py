"""Reading single fields of a `config.json`, each fault named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def count(raw: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A whole number >= 1; absent and null are the default."""
    value = raw.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"[engine] {name} must be a whole number >= 1, got {value!r}")
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
