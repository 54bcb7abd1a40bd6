"""The part of a Hugging Face `config.json` that the engine executes, read strictly.

Anything the engine would silently compute differently from `transformers` (another RoPE, biases
where a family has none, another activation, another architecture) is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebench_kernels.checkpoints.files import read_json
from edgebench_kernels.engine.config_fields import count, flag, positive
from edgebench_kernels.engine.families import SLIDING_WINDOW, Family, find_family
from edgebench_kernels.engine.rope_config import RopeScaling, parse_rope

DEFAULT_RMS_NORM_EPS = 1e-6  # transformers, in each family
MOST_LAYERS = 1024  # ours: the deepest published models have fewer than 200


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
    rope_scaling: RopeScaling | None = None
    has_qkv_bias: bool = False
    """q, k and v add a bias (Qwen2)."""
    has_head_norms: bool = False
    """Each head of q and k is normed before RoPE (Qwen3)."""
    sliding_window: int | None = None
    """Tokens that attention looks back; an engine holds no more, so that it sees all of them."""

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


def read_config(path: Path, *, may_be_quantized: bool = False) -> LlamaConfig:
    """Read a `config.json`; raises ValueError naming the file and what is wrong.

    Where it may be quantized, quantization_config is the business of whoever reads the weights.
    """
    raw = read_json(path)
    if may_be_quantized:
        raw.pop("quantization_config", None)
    try:
        return parse_config(raw)
    except ValueError as err:
        raise ValueError(f"{err} (in {path})") from err


def parse_config(raw: Mapping[str, Any]) -> LlamaConfig:
    """Turn a decoded `config.json` into a LlamaConfig; raises ValueError on what we cannot run."""
    family = find_family(raw)
    _refuse_other_graphs(raw)
    heads = count(raw, "num_attention_heads")
    hidden_size = count(raw, "hidden_size")
    is_said = "num_key_value_heads" in raw  # null there means as many as heads
    kv_heads = count(raw, "num_key_value_heads", heads if is_said else family.kv_heads or heads)
    if heads % kv_heads:
        raise ValueError(
            "[engine] num_attention_heads must be a multiple of num_key_value_heads, "
            f"got {heads} and {kv_heads}"
        )
    head_dim = count(raw, "head_dim", family.head_dim or hidden_size // heads)
    if head_dim % 2:
        raise ValueError(f"[engine] head_dim must be even for RoPE, got {head_dim}")
    rope_theta, rope_scaling = parse_rope(raw)
    return LlamaConfig(
        vocab_size=count(raw, "vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=count(raw, "intermediate_size"),
        layers=count(raw, "num_hidden_layers", most=MOST_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=count(
            raw, "max_position_embeddings", family.max_position_embeddings
        ),
        rope_theta=rope_theta,
        rms_norm_eps=positive(raw, "rms_norm_eps", DEFAULT_RMS_NORM_EPS),
        is_tied=flag(raw, "tie_word_embeddings"),
        rope_scaling=rope_scaling,
        has_qkv_bias=family.has_qkv_bias,
        has_head_norms=family.has_head_norms,
        sliding_window=_sliding_window(raw, family),
    )


def _refuse_other_graphs(raw: Mapping[str, Any]) -> None:
    if raw.get("hidden_act", "silu") != "silu":
        raise ValueError(f"[engine] only hidden_act 'silu' runs here, got {raw['hidden_act']!r}")
    for name in ("attention_bias", "mlp_bias"):
        if flag(raw, name):
            raise ValueError(
                f"[engine] {name} must be false: only Qwen2's q, k, v have a bias here"
            )
    if raw.get("quantization_config") is not None:
        raise ValueError(
            "[engine] the checkpoint is already quantized (quantization_config); "
            "give the unquantized fp16 weights"
        )


def _sliding_window(raw: Mapping[str, Any], family: Family) -> int | None:
    """Tokens that attention looks back in some layer; None where it sees all."""
    kinds = set(raw.get("layer_types") or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise ValueError(
            f"[engine] layer_types {', '.join(sorted(map(str, kinds)))} do not run here"
        )
    is_used = family.sliding == "always" or (
        family.sliding == "if-used" and flag(raw, "use_sliding_window")
    )
    if not is_used or ("sliding_window" in raw and raw["sliding_window"] is None):
        return None
    return count(raw, "sliding_window", SLIDING_WINDOW)
