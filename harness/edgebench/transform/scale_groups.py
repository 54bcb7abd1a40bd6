"""Which linears of a decoder layer read one input, and what makes it: where scales can be moved.

Names are relative to the layer; a checkpoint may hold q, k, v or gate, up fused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Q, K, V, O = (f"self_attn.{part}_proj" for part in "qkvo")  # noqa: E741  their names everywhere
GATE, UP, DOWN = (f"mlp.{part}_proj" for part in ("gate", "up", "down"))
INPUT_NORM, MLP_NORM = "input_layernorm", "post_attention_layernorm"
LINEARS = (Q, K, V, O, GATE, UP, DOWN)
FUSED: Mapping[str, tuple[str, ...]] = {
    "self_attn.qkv_proj": (Q, K, V),
    "mlp.gate_up_proj": (GATE, UP),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleGroup:
    """Linears that read one input, and what makes that input: a norm, or a linear."""

    feeder: str
    readers: tuple[str, ...]
    feeder_is_norm: bool


SCALE_GROUPS: tuple[ScaleGroup, ...] = (
    ScaleGroup(feeder=INPUT_NORM, readers=(Q, K, V), feeder_is_norm=True),
    ScaleGroup(feeder=V, readers=(O,), feeder_is_norm=False),
    ScaleGroup(feeder=MLP_NORM, readers=(GATE, UP), feeder_is_norm=True),
    ScaleGroup(feeder=UP, readers=(DOWN,), feeder_is_norm=False),
)
HEAD_GROUP = ScaleGroup(feeder="model.norm", readers=("lm_head",), feeder_is_norm=True)
