"""The checker's Llama without torch computes what the transforms' computes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench.checker import llama  # noqa: E402
from edgebench.transform import llama_layer  # noqa: E402
from edgebench_kernels.engine import parse_config  # noqa: E402
from tests.transform.conftest import CONFIG, layer_tensors  # noqa: E402

pytestmark = pytest.mark.torch

ROPE = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 1},
    {"num_key_value_heads": 4},
    {"rope_parameters": ROPE},
    {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}},
    {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_a_layer_shows_the_same_inputs(changes: dict[str, Any]) -> None:
    config = parse_config({**CONFIG, **changes})
    draw = torch.Generator().manual_seed(2)
    tensors = layer_tensors(config, 5)
    for name, size in (("q", config.query_size), ("k", config.kv_size), ("v", config.kv_size)):
        if config.has_qkv_bias:
            tensors[f"self_attn.{name}_proj.bias"] = torch.randn(size, generator=draw).half()
        if config.has_head_norms and name != "v":
            weight = torch.rand(config.head_dim, generator=draw) + 0.5
            tensors[f"self_attn.{name}_norm.weight"] = weight.half()
    lengths = [5, 17, 1, 9]
    hidden = torch.randn(sum(lengths), config.hidden_size, generator=draw)
    seen: dict[str, Any] = {}
    prompts = llama_layer.Prompts(config, lengths, torch.device("cpu"))
    there = llama_layer.walk(
        llama_layer.Layer(config, tensors),
        hidden,
        prompts,
        lambda group, x: seen.update({group.feeder: x.clone()}),
    )

    def compare(group: Any, x: llama.Floats) -> None:
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, seen.pop(group.feeder).numpy(), rtol=1e-4, atol=1e-4)

    floats = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    sequences = llama.Sequences(config, [[0] * length for length in lengths])
    here = llama.walk(llama.Layer(config, floats), hidden.numpy(), sequences, compare)
    assert not seen
    np.testing.assert_allclose(here, there.numpy(), rtol=1e-4, atol=1e-3)


def test_later_tokens_and_other_sequences_are_not_seen(tmp_path: Path) -> None:
    config = parse_config(CONFIG)
    draw = np.random.default_rng(0)
    q, k, v = (draw.normal(size=(6, heads, 16)).astype(np.float32) for heads in (4, 2, 2))
    sequences = llama.Sequences(config, [[0] * 4, [0] * 2])
    before = sequences.attend(q, k, v)
    k[3], v[3] = 9, 9
    after = sequences.attend(q, k, v)
    assert np.array_equal(before[[0, 1, 2, 4, 5]], after[[0, 1, 2, 4, 5]])
    assert not np.array_equal(before[3], after[3])
