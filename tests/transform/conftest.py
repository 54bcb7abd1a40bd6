"""A checkpoint of two layers with grouped queries and outlier channels, and prompts for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.quantized import ReferenceLinears, open_reference
from edgebench_kernels.engine import LlamaConfig, parse_config

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
}
ZEROS = "0" * 64


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products gain nothing from a second thread and suffer where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config() -> LlamaConfig:
    """The shape of the checkpoint."""
    return parse_config(CONFIG)


def layer_tensors(config: LlamaConfig, seed: int) -> dict[str, torch.Tensor]:
    """One layer in fp16 with two outlier channels behind each norm, names relative to it."""
    draw = torch.Generator().manual_seed(seed)
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes = {
        "self_attn.q_proj": (config.query_size, hidden),
        "self_attn.k_proj": (config.kv_size, hidden),
        "self_attn.v_proj": (config.kv_size, hidden),
        "self_attn.o_proj": (hidden, config.query_size),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    tensors = {
        f"{name}.weight": torch.randn(shape, generator=draw) / shape[1] ** 0.5
        for name, shape in shapes.items()
    }
    for norm in ("input_layernorm", "post_attention_layernorm"):
        weight = torch.rand(hidden, generator=draw) + 0.5
        weight[[3, 40]] *= 16
        tensors[f"{norm}.weight"] = weight
    return {name: tensor.half() for name, tensor in tensors.items()}


def write_checkpoint(folder: Path, **changes: Any) -> ReferenceLinears:
    """Write a checkpoint with random weights; `changes` go into its config."""
    raw = {**CONFIG, **changes}
    (folder / "config.json").write_text(json.dumps(raw))
    config = parse_config(raw)
    draw = torch.Generator().manual_seed(7)
    tensors = {
        "model.embed_tokens.weight": torch.randn(config.vocab_size, 64, generator=draw).half(),
        "model.norm.weight": (torch.rand(64, generator=draw) + 0.5).half(),
    }
    if not config.is_tied:
        head = torch.randn(config.vocab_size, 64, generator=draw) / 8
        tensors["lm_head.weight"] = head.half()
    for index in range(config.layers):
        own = layer_tensors(config, index)
        tensors |= {f"model.layers.{index}.{name}": tensor for name, tensor in own.items()}
    save_file(tensors, folder / "model.safetensors")
    return open_reference(folder / "model.safetensors", ZEROS)


@pytest.fixture
def reference(tmp_path: Path) -> ReferenceLinears:
    """The checkpoint."""
    return write_checkpoint(tmp_path)


@pytest.fixture
def calibration() -> CalibrationSet:
    """Twelve sequences of 3 to 17 tokens."""
    draw = np.random.default_rng(1)
    lengths = (5, 9, 17, 3) * 3
    return CalibrationSet(
        sha256="c" * 64, sequences=[draw.integers(0, 50, n).tolist() for n in lengths]
    )


@pytest.fixture
def skewed() -> tuple[torch.Tensor, torch.Tensor]:
    """Weight f32 [24, 64] and inputs f32 [200, 64] with correlated and two outlier channels."""
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(24, 64, generator=draw) / 8
    x = torch.randn(200, 64, generator=draw) @ torch.randn(64, 64, generator=draw) / 8
    x[:, [5, 33]] *= 20
    weight[:, [5, 33]] /= 8
    return weight, x
