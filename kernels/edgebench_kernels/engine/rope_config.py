"""What a `config.json` says about RoPE: its base, and how its frequencies are scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgebench_kernels.engine.config_fields import count, positive

DEFAULT_ROPE_THETA = 10_000.0  # transformers RotaryEmbeddingConfigMixin.default_theta


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Frequencies lowered for longer contexts: all of them, or as Llama 3.1 does the low ones."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192
    """Tokens of context that the model was first trained for; llama3 alone reads these three."""


def parse_rope(raw: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """Base and scaling, from `rope_scaling`, `rope_parameters` (transformers >= 5), `rope_theta`.

    As in transformers, a `rope_scaling` that says anything takes the place of `rope_parameters`.
    Raises ValueError naming a rope_type that does not run here.
    """
    rope = _rope_fields(raw)
    partial = rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise ValueError(f"[engine] partial_rotary_factor must be 1, got {partial!r}")
    theta = positive(rope if "rope_theta" in rope else raw, "rope_theta", DEFAULT_ROPE_THETA)
    return theta, _scaling(rope)


def _rope_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    said: list[Mapping[str, Any]] = []
    for key in ("rope_scaling", "rope_parameters"):
        value = raw.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"[engine] {key} must be an object, got {value!r}")
        if value:
            said.append(value)
    return dict(said[0]) if said else {}


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=positive(rope, "factor"))
    if kind != "llama3":
        raise ValueError(
            f"[engine] only rope_type default, linear and llama3 run here, got rope_type={kind!r}"
        )
    scaling = RopeScaling(
        kind="llama3",
        factor=positive(rope, "factor"),
        low_freq_factor=positive(rope, "low_freq_factor"),
        high_freq_factor=positive(rope, "high_freq_factor"),
        original_length=count(rope, "original_max_position_embeddings"),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise ValueError(
            "[engine] high_freq_factor must be above low_freq_factor, "
            f"got {scaling.high_freq_factor:g} and {scaling.low_freq_factor:g}"
        )
    return scaling
