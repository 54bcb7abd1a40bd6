"""The model families that the engine runs: what each adds to Llama, and its defaults.

Source of the defaults: transformers 5.24, models/<family>/configuration_<family>.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One `model_type`."""

    architecture: str
    has_qkv_bias: bool = False
    """q, k and v add a bias; no other linear does."""
    has_head_norms: bool = False
    """Each head of q and k is normed before RoPE."""
    sliding: Literal["never", "if-used", "always"] = "never"
    """Whether `sliding_window` counts: never, if use_sliding_window says so, or always."""
    kv_heads: int | None = None
    """num_key_value_heads where config.json has none; None: as many as heads."""
    head_dim: int | None = None
    """head_dim where config.json has none; None: hidden_size / heads."""
    max_position_embeddings: int


FAMILIES: Mapping[str, Family] = {
    "llama": Family(architecture="LlamaForCausalLM", max_position_embeddings=2048),
    "mistral": Family(
        architecture="MistralForCausalLM",
        sliding="always",
        kv_heads=8,
        max_position_embeddings=131_072,
    ),
    "qwen2": Family(
        architecture="Qwen2ForCausalLM",
        has_qkv_bias=True,
        sliding="if-used",
        kv_heads=32,
        max_position_embeddings=32_768,
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        has_head_norms=True,
        sliding="if-used",
        kv_heads=32,
        head_dim=128,
        max_position_embeddings=32_768,
    ),
}
SLIDING_WINDOW = 4096  # of mistral, qwen2 and qwen3, where config.json has none


def find_family(raw: Mapping[str, Any]) -> Family:
    """The family of a decoded config.json; ValueError names what does not run here."""
    if raw.get("auto_map"):
        raise ValueError(
            "[engine] config.json brings code of its own (auto_map), which is never run: "
            "there is no trust_remote_code here; remove auto_map if the model is a plain one"
        )
    architectures = raw.get("architectures")
    model_type = raw.get("model_type")
    if model_type is None:
        named = {f"[{family.architecture!r}]": name for name, family in FAMILIES.items()}
        model_type = named.get(str(architectures))
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(
            f"[engine] only model_type {', '.join(FAMILIES)} runs here, got {model_type!r} with "
            f"architectures={architectures}"
        )
    family = FAMILIES[model_type]
    if architectures not in (None, [family.architecture]):
        raise ValueError(
            f"[engine] only {family.architecture} of model_type {model_type!r} runs here, "
            f"got architectures={architectures}"
        )
    return family
