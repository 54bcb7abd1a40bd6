"""Which checkpoint tensors become one linear: q, k, v share an input, and so do gate and up."""

from __future__ import annotations

from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.weights import LM_HEAD, linear_shapes

_PARTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def fused_linears(config: LlamaConfig) -> dict[str, tuple[str, ...]]:
    """The engine's linear -> Hugging Face tensors whose rows it concatenates, execution order."""
    fused: dict[str, tuple[str, ...]] = {}
    for layer in range(config.layers):
        for part, names in _PARTS.items():
            sources = tuple(f"model.layers.{layer}.{name}.weight" for name in names)
            fused[f"layers.{layer}.{part}"] = sources
    fused["lm_head"] = (LM_HEAD,)
    return fused


def fused_shapes(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    """The engine's linear -> (N, K)."""
    shapes = linear_shapes(config)
    return {
        fused: (sum(shapes[name][0] for name in names), shapes[names[0]][1])
        for fused, names in fused_linears(config).items()
    }
