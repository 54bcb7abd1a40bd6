"""A Llama of two layers with INT4 weights, and what it computes in float64."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgebench.transform.quantized import Folded
from edgebench_kernels.engine import LlamaConfig, LlamaWeights, weights_from_tensors
from edgebench_kernels.engine.weights import EMBEDDING, FINAL_NORM, LM_HEAD, tensor_shapes
from edgebench_kernels.formats import Int4Tensor, dequantize
from edgebench_kernels.quantize import quantize_rtn

GROUP = 32
CONFIG = LlamaConfig(
    vocab_size=64,
    hidden_size=96,
    intermediate_size=128,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    max_position_embeddings=64,
    rope_theta=10_000.0,
    rms_norm_eps=1e-5,
    is_tied=False,
)
CONFIG_JSON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": CONFIG.vocab_size,
    "hidden_size": CONFIG.hidden_size,
    "intermediate_size": CONFIG.intermediate_size,
    "num_hidden_layers": CONFIG.layers,
    "num_attention_heads": CONFIG.heads,
    "num_key_value_heads": CONFIG.kv_heads,
    "head_dim": CONFIG.head_dim,
    "rms_norm_eps": CONFIG.rms_norm_eps,
}


def weights_of(config: LlamaConfig = CONFIG, seed: int = 26) -> LlamaWeights:
    """Random fp16 weights whose answers change from token to token."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        if "norm" in name:
            return 1 + 0.1 * noise
        return noise if name == EMBEDDING else noise * (2 / shape[-1] ** 0.5)

    shapes = tensor_shapes(config)
    return weights_from_tensors(config, {name: tensor(name, s) for name, s in shapes.items()})


def quantized(weights: LlamaWeights) -> dict[str, Int4Tensor]:
    """Each linear in 4 bits."""
    return {name: quantize_rtn(w.numpy(), GROUP) for name, w in weights.linears().items()}


def rounded(weights: LlamaWeights, tensors: dict[str, Int4Tensor]) -> dict[str, Tensor]:
    """Every tensor in float64, linears as their 4 bits say."""
    exact = {name: tensor.double() for name, tensor in weights.tensors.items()}
    return exact | {name: torch.from_numpy(dequantize(t)).double() for name, t in tensors.items()}


def logits_of(config: LlamaConfig, tensors: dict[str, Tensor], tokens: Sequence[int]) -> Tensor:
    """float64 [T, V]: the logits behind every token of one sequence."""
    x = tensors[EMBEDDING][torch.tensor(tokens)]
    cos, sin = _rotations(config, len(tokens))
    for index in range(config.layers):
        prefix = f"model.layers.{index}."

        def linear(name: str, y: Tensor, prefix: str = prefix) -> Tensor:
            return y @ tensors[f"{prefix}{name}.weight"].T

        y = _norm(x, tensors[prefix + "input_layernorm.weight"], config)
        heads = [
            linear(f"self_attn.{name}_proj", y).view(len(tokens), -1, config.head_dim)
            for name in "qkv"
        ]
        query, key = (_rotated(one, cos, sin) for one in heads[:2])
        shared = config.heads // config.kv_heads
        mixed = _attention(
            query, key.repeat_interleave(shared, 1), heads[2].repeat_interleave(shared, 1)
        )
        x = x + linear("self_attn.o_proj", mixed)
        y = _norm(x, tensors[prefix + "post_attention_layernorm.weight"], config)
        gate = linear("mlp.gate_proj", y)
        x = x + linear("mlp.down_proj", gate * gate.sigmoid() * linear("mlp.up_proj", y))
    return _norm(x, tensors[FINAL_NORM], config) @ tensors[LM_HEAD].T


def _norm(x: Tensor, weight: Tensor, config: LlamaConfig) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * weight


def _rotations(config: LlamaConfig, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin float64 [T, 1, D / 2]."""
    half = np.arange(config.head_dim // 2) * 2 / config.head_dim
    angles = np.arange(length)[:, None] / config.rope_theta**half
    return torch.from_numpy(np.cos(angles))[:, None], torch.from_numpy(np.sin(angles))[:, None]


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = heads.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal, of float64 [T, H, D]."""
    scores = torch.einsum("thd,shd->hts", query, key) / query.shape[-1] ** 0.5
    future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    softmax = scores.masked_fill(future, -torch.inf).softmax(-1)
    return torch.einsum("hts,shd->thd", softmax, value).flatten(1)


def prepared_in(folder: Path, folded: Folded) -> SimpleNamespace:
    """Write this model into a folder; returns what engines take of a prepared workload of it."""
    weights = weights_of()
    save_file(dict(weights.tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG_JSON))
    return SimpleNamespace(
        directory=folder,
        candidate_directory=folder,
        changed=None,
        prompts=[[1, 2, 3], [4]],
        calls=[[5, 63], [6, 7, 63]],
        eos_id=63,
        quantized=SimpleNamespace(tensors=quantized(weights), folded=folded),
        workload=SimpleNamespace(task=SimpleNamespace(max_new_tokens=6)),
    )
