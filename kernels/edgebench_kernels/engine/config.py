"""The part of a Hugging Face `config.json` that the engine executes, read strictly.

Anything the engine would silently compute differently from `transformers` (scaled RoPE, biases,
another activation, another architecture) is refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_ROPE_THETA = 10_000.0  # transformers LlamaConfig.default_theta
DEFAULT_RMS_NORM_EPS = 1e-6  # transformers LlamaConfig.rms_norm_eps


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """The shape of one Llama-family decoder."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    is_tied: bool
    """lm_head reads the embedding's weight."""

    @property
    def qkv_heads(self) -> int:
        """Heads in the fused q, k, v projection."""
        return self.heads + 2 * self.kv_heads

    @property
    def query_size(self) -> int:
        """Outputs of q_proj, inputs of o_proj."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Outputs of k_proj, and of v_proj."""
        return self.kv_heads * self.head_dim


def read_config(path: Path) -> LlamaConfig:
    """Read a `config.json`; raises ValueError naming the file and what is wrong."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ValueError(f"[engine] no config.json at {path}") from err
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise ValueError(f"[engine] {path} is not readable JSON: {err}") from err
    if not isinstance(raw, dict):
        raise ValueError(f"[engine] {path} must hold a JSON object, got {type(raw).__name__}")
    try:
        return parse_config(raw)
    except ValueError as err:
        raise ValueError(f"{err} (in {path})") from err


def parse_config(raw: Mapping[str, Any]) -> LlamaConfig:
    """Turn a decoded `config.json` into a LlamaConfig; raises ValueError on what we cannot run."""
    _refuse_other_graphs(raw)
    heads = _count(raw, "num_attention_heads")
    hidden_size = _count(raw, "hidden_size")
    kv_heads = _count(raw, "num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise ValueError(
            "[engine] num_attention_heads must be a multiple of num_key_value_heads, "
            f"got {heads} and {kv_heads}"
        )
    head_dim = _count(raw, "head_dim", default=hidden_size // heads)
    if head_dim % 2:
        raise ValueError(f"[engine] head_dim must be even for RoPE, got {head_dim}")
    return LlamaConfig(
        vocab_size=_count(raw, "vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=_count(raw, "intermediate_size"),
        layers=_count(raw, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=_count(raw, "max_position_embeddings", default=2048),
        rope_theta=_rope_theta(raw),
        rms_norm_eps=_positive(raw, "rms_norm_eps", DEFAULT_RMS_NORM_EPS),
        is_tied=_flag(raw, "tie_word_embeddings"),
    )


def _refuse_other_graphs(raw: Mapping[str, Any]) -> None:
    architectures = raw.get("architectures")
    if architectures not in (None, ["LlamaForCausalLM"]):
        raise ValueError(
            f"[engine] only LlamaForCausalLM runs here, got architectures={architectures}"
        )
    model_type = raw.get("model_type", None if architectures is None else "llama")
    if model_type != "llama":
        raise ValueError(f"[engine] only model_type 'llama' runs here, got {model_type!r}")
    if raw.get("hidden_act", "silu") != "silu":
        raise ValueError(f"[engine] only hidden_act 'silu' runs here, got {raw['hidden_act']!r}")
    for name in ("attention_bias", "mlp_bias"):
        if _flag(raw, name):
            raise ValueError(
                f"[engine] {name} must be false: linears with a bias are not supported"
            )
    if raw.get("quantization_config") is not None:
        raise ValueError(
            "[engine] the checkpoint is already quantized (quantization_config); "
            "give the unquantized fp16 weights"
        )


def _rope_theta(raw: Mapping[str, Any]) -> float:
    """Theta of the default RoPE, from `rope_parameters` (transformers >= 5) or `rope_theta`."""
    rope: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = raw.get(key)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise ValueError(f"[engine] {key} must be an object, got {value!r}")
        rope.update(value)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ValueError(f"[engine] only the default RoPE runs here, got rope_type={kind!r}")
    partial = rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise ValueError(f"[engine] partial_rotary_factor must be 1, got {partial!r}")
    if "rope_theta" in rope:
        return _positive(rope, "rope_theta", DEFAULT_ROPE_THETA)
    return _positive(raw, "rope_theta", DEFAULT_ROPE_THETA)


def _count(raw: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = raw.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"[engine] {name} must be a whole number >= 1, got {value!r}")
    return value


def _positive(raw: Mapping[str, Any], name: str, default: float) -> float:
    value = raw.get(name, default)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"[engine] {name} must be a positive number, got {value!r}")
    return float(value)


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"[engine] {name} must be true or false, got {value!r}")
    return value
