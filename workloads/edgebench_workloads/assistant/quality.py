"""Judges answers by exact match of the parsed call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _object(items: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(items)) != len(items):
        raise ValueError("a key occurs twice")
    return dict(items)


def parse_call(text: str) -> dict[str, object] | None:
    """The call as a dict; None unless the text is one strict JSON object.

    NaN, duplicate keys and text after the object are refused.
    """
    try:
        call = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None
    return call if isinstance(call, dict) else None


def _typed(value: object) -> object:
    """The value with its types: 5, 5.0, "5" and true differ; the order of keys does not matter."""
    if isinstance(value, dict):
        return frozenset((key, _typed(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(_typed(item) for item in value)
    return type(value).__name__, value


def is_exact_match(output_text: str, expected_call: str) -> bool:
    """True when both parse to the same call, types included.

    An answer that does not parse is wrong. Raises ValueError when the expected call does not parse.
    """
    expected = parse_call(expected_call)
    if expected is None:
        raise ValueError(
            f"[assistant/quality] expected_call must be one JSON object, got {expected_call!r}"
        )
    output = parse_call(output_text)
    return output is not None and _typed(output) == _typed(expected)


def exact_match_percent(outputs: Sequence[str], expected: Sequence[str]) -> float:
    """Percent of outputs that match."""
    if len(outputs) != len(expected) or not expected:
        raise ValueError(
            "[assistant/quality] need as many outputs as calls and at least one, "
            f"got {len(outputs)} and {len(expected)}"
        )
    return 100.0 * sum(map(is_exact_match, outputs, expected)) / len(expected)
