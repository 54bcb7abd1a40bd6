"""config.json is read strictly: what the engine would compute differently is refused by name."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from edgebench_kernels.engine import parse_config, read_config
from edgebench_kernels.engine.families import FAMILIES
from edgebench_kernels.engine.rope_config import RopeScaling

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

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
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


def of_family(model_type: str, **change) -> dict:
    return {**BASE, "architectures": None, "model_type": model_type, **change}


def test_families_differ_in_what_they_add() -> None:
    added = {}
    for model_type in FAMILIES:
        config = parse_config(of_family(model_type))
        added[model_type] = (config.has_qkv_bias, config.has_head_norms, config.sliding_window)
    assert added == {
        "llama": (False, False, None),
        "mistral": (False, False, 4096),
        "qwen2": (True, False, None),
        "qwen3": (False, True, None),
    }


@pytest.mark.parametrize(
    ("change", "window"),
    [
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "mistral", "sliding_window": 64}, 64),
        ({"model_type": "qwen2", "sliding_window": 64}, None),
        ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}, 64),
        ({"model_type": "llama", "sliding_window": 64}, None),
    ],
)
def test_a_sliding_window_counts_where_transformers_uses_it(change, window) -> None:
    assert parse_config(of_family(**change)).sliding_window == window


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_family_defaults_are_those_of_transformers(model_type: str) -> None:
    """What a config.json leaves out, as the family's own class fills it in."""
    from transformers import AutoConfig

    left_out = of_family(model_type, num_attention_heads=32, hidden_size=128)
    del left_out["num_key_value_heads"], left_out["architectures"], left_out["model_type"]
    theirs = AutoConfig.for_model(model_type, **left_out)
    ours = parse_config({**left_out, "model_type": model_type})
    assert ours.kv_heads == theirs.num_key_value_heads
    assert ours.max_position_embeddings == theirs.max_position_embeddings
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or 128 // 32)
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.sliding_window == getattr(theirs, "sliding_window", None)


def test_an_architecture_alone_names_the_family() -> None:
    raw = {**BASE, "architectures": ["Qwen2ForCausalLM"], "model_type": None}
    assert parse_config(raw).has_qkv_bias


def test_rope_scaling_takes_the_place_of_rope_parameters() -> None:
    stale = {"rope_type": "default", "rope_theta": 500_000.0}
    both = {**BASE, "rope_parameters": stale, "rope_theta": 1e6}
    read = parse_config({**both, "rope_scaling": {"type": "linear", "factor": 4}})
    assert read.rope_scaling == RopeScaling(kind="linear", factor=4.0)
    assert read.rope_theta == 1e6
    assert parse_config({**both, "rope_scaling": {}}).rope_theta == 500_000.0
    with pytest.raises(ValueError, match="rope_type='yarn'"):
        parse_config({**both, "rope_scaling": {"type": "yarn", "factor": 4}})


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_rope_scaling_is_read(key: str) -> None:
    assert parse_config({**BASE, key: {"type": "linear", "factor": 4}}).rope_scaling == RopeScaling(
        kind="linear", factor=4.0
    )
    assert parse_config({**BASE, key: LLAMA3}).rope_scaling == RopeScaling(
        kind="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_length=8192,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "only LlamaForCausalLM.*Mistral"),
        ({"model_type": "mistral"}, "only MistralForCausalLM of model_type 'mistral'.*Llama"),
        ({"model_type": "gemma3"}, "only model_type llama, mistral, qwen2, qwen3.*'gemma3'"),
        ({"model_type": None, "architectures": ["Phi3ForCausalLM"]}, "only model_type.*Phi3"),
        ({"auto_map": {"AutoModelForCausalLM": "m.Model"}}, "auto_map.*no trust_remote_code"),
        ({"layer_types": ["chunked_attention"]}, "layer_types.*chunked_attention"),
        ({"hidden_act": "gelu"}, "only hidden_act 'silu'.*gelu"),
        ({"attention_bias": True}, "attention_bias must be false"),
        ({"mlp_bias": True}, "mlp_bias must be false"),
        ({"mlp_bias": "no"}, "mlp_bias must be true or false"),
        ({"quantization_config": {"bits": 4}}, "already quantized"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "factor must be a positive number, got None"),
        ({"rope_scaling": {"type": "linear"}}, "factor must be a positive number, got None"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1}}, "must be above low_freq_factor"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "default, linear and llama3.*'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "llama3 run here.*'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "llama3 run here.*'longrope'"),
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
