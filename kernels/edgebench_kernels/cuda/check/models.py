"""The models that are decoded."""

from __future__ import annotations

from edgebench_kernels.engine.config import LlamaConfig

LLAMA_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    max_position_embeddings=8192,
    rope_theta=500_000.0,
    rms_norm_eps=1e-5,
    is_tied=False,
)
"""The shape of Llama-3-8B (its published config.json); weights are random."""
