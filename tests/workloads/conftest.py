"""A Llama checkpoint of a few kilobytes with fixed weights, for the widening and catalog tests.

Weights come from a formula, not from a generator, so that golden hashes rest on nothing but IEEE.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgebench_workloads.weights import write_fp16

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "float16",
}
_LAYER = (
    ("self_attn.q_proj", (32, 32)),
    ("self_attn.k_proj", (16, 32)),
    ("self_attn.v_proj", (16, 32)),
    ("self_attn.o_proj", (32, 32)),
    ("mlp.gate_proj", (48, 32)),
    ("mlp.up_proj", (48, 32)),
    ("mlp.down_proj", (32, 48)),
    ("input_layernorm", (32,)),
    ("post_attention_layernorm", (32,)),
)
_ENDS = (("lm_head", (40, 32)), ("model.embed_tokens", (40, 32)), ("model.norm", (32,)))


def _tensor(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float16]:
    """Values that look random: within +-0.25 for matrices, 0.8 to 1.2 for norms."""
    start = sum(name.encode()) * 1009
    steps = (np.arange(np.prod(shape), dtype=np.int64) * 7919 + start) ** 2 % 1021
    unit = (steps.astype(np.float64) / 1020 - 0.5).reshape(shape)
    return (1 + unit * 0.4 if len(shape) == 1 else unit * 0.5).astype(np.float16)


@pytest.fixture(scope="session")
def tiny_tensors() -> dict[str, npt.NDArray[np.float16]]:
    """Every tensor of a two-layer Llama, by name."""
    shapes = dict(_ENDS)
    for layer in range(CONFIG["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in _LAYER}
    return {f"{name}.weight": _tensor(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def tiny_config() -> dict[str, Any]:
    """Its config.json."""
    return dict(CONFIG)


@pytest.fixture
def tiny_directory(tmp_path: Path, tiny_tensors: dict[str, npt.NDArray[np.float16]]) -> Path:
    """It as a Hugging Face directory, with a stand-in for the tokenizer."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    shapes = {name: tensor.shape for name, tensor in tiny_tensors.items()}
    write_fp16(directory / "model.safetensors", shapes, tiny_tensors.values())
    (directory / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (directory / "tokenizer.json").write_text('{"stand-in": true}', encoding="utf-8")
    (directory / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    return directory
