"""config.json is read strictly: what the engine would compute differently is refused by name."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from edgebench_kernels.engine import parse_config, read_config

pytestmark = pytest.mark.torch

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def test_defaults_are_those_of_transformers() -> None:
    config = parse_config(BASE)
    assert (config.head_dim, config.kv_heads, config.is_tied) == (16, 2, False)
    assert (config.rope_theta, config.rms_norm_eps) == (10_000.0, 1e-6)
    assert (config.query_size, config.kv_size, config.qkv_heads) == (64, 32, 8)
    assert parse_config({**BASE, "num_key_value_heads": None}).kv_heads == 4


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 500_000.0},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        {"rope_theta": 500_000, "rope_scaling": None},
        {"rope_theta": 1.0, "rope_parameters": {"rope_theta": 500_000.0}},
    ],
)
def test_rope_theta_is_found_where_versions_put_it(rope) -> None:
    assert parse_config({**BASE, **rope}).rope_theta == 500_000.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "only LlamaForCausalLM.*Mistral"),
        ({"model_type": "mistral"}, "only model_type 'llama'"),
        ({"hidden_act": "gelu"}, "only hidden_act 'silu'.*gelu"),
        ({"attention_bias": True}, "attention_bias must be false"),
        ({"mlp_bias": True}, "mlp_bias must be false"),
        ({"mlp_bias": "no"}, "mlp_bias must be true or false"),
        ({"quantization_config": {"bits": 4}}, "already quantized"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "default RoPE.*llama3"),
        ({"rope_scaling": {"type": "linear"}}, "default RoPE.*linear"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "default RoPE.*yarn"),
        ({"rope_parameters": 7}, "rope_parameters must be an object"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor must be 1"),
        ({"rope_theta": -1.0}, "rope_theta must be a positive number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number"),
        ({"vocab_size": None}, "vocab_size must be a whole number >= 1, got None"),
        ({"hidden_size": 64.0}, "hidden_size must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads, got 4 and 3"),
        ({"head_dim": 15}, "head_dim must be even"),
    ],
)
def test_what_cannot_run_is_named(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config({**BASE, **change})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "only model_type"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ValueError, match=r"no config\.json at"):
        read_config(path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


def test_a_written_config_is_read(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BASE), encoding="utf-8")
    assert read_config(tmp_path / "config.json") == parse_config(BASE)
