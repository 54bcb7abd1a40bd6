"""Weights come from safetensors only, and every fault of a checkpoint is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from edgebench_kernels.engine import linear_shapes, load_reference  # noqa: E402

pytestmark = pytest.mark.torch

DOWN = "model.layers.1.mlp.down_proj.weight"
BIAS = "model.layers.1.mlp.down_proj.bias"


@pytest.fixture
def copy(tied, tmp_path) -> Path:
    return Path(shutil.copytree(tied, tmp_path / "copy"))


def rewrite(directory: Path, change) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def replace_down(value):
    return lambda tensors: tensors.update({DOWN: value(tensors[DOWN])})


def test_tensors_are_the_fp16_ones_of_the_file(tied) -> None:
    weights = load_reference(tied)
    stored = load_file(tied / "model.safetensors")
    assert set(weights.tensors) == set(stored)
    assert all(torch.equal(weights.tensors[name], stored[name]) for name in stored)


def test_linears_include_the_tied_lm_head(tied, checkpoints) -> None:
    weights = load_reference(tied)
    linears = weights.linears()
    assert list(linears) == list(linear_shapes(weights.config))
    assert linears["lm_head.weight"] is weights.tensors["model.embed_tokens.weight"]
    untied = load_reference(checkpoints["untied"])
    assert untied.linears()["lm_head.weight"] is untied.tensors["lm_head.weight"]


def test_other_floats_are_rounded_to_fp16(copy) -> None:
    expected = load_reference(copy).tensors[DOWN].clone()
    rewrite(copy, replace_down(lambda old: old.float()))
    assert torch.equal(load_reference(copy).tensors[DOWN], expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda old: old[:, :-1].contiguous(), r"must have shape \[64, 128\].*got \[64, 127\]"),
        (lambda old: old.to(torch.int8), "must be fp16, bf16 or fp32"),
        (lambda old: old.float() * 1e9, r"must fit in fp16 \(at most 65504\), got \d.*e\+0[89]"),
        (lambda old: old * torch.nan, "must be finite, got NaN or infinity"),
    ],
)
def test_a_bad_tensor_is_named(copy, value, message: str) -> None:
    rewrite(copy, replace_down(value))
    with pytest.raises(ValueError, match=rf"tensor {DOWN}.*{message}"):
        load_reference(copy)


def test_a_missing_tensor_is_named(copy) -> None:
    rewrite(copy, lambda tensors: tensors.pop(DOWN))
    with pytest.raises(ValueError, match=rf"tensor {DOWN} is missing"):
        load_reference(copy)


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_a_truncated_file_is_named(copy, kept: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        load_reference(copy)


def test_pickled_weights_are_never_read(copy) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match="only safetensors are read"):
        load_reference(copy)


def split_in_two(directory: Path, second_name: str) -> None:
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in files.items():
        save_file({name: tensors[name] for name in held}, directory / file)
    index = dict.fromkeys(names[::2], "a.safetensors") | dict.fromkeys(names[1::2], second_name)
    text = json.dumps({"weight_map": index})
    (directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def test_shards_are_read(tied, copy) -> None:
    split_in_two(copy, "b.safetensors")
    expected, got = load_reference(tied).tensors, load_reference(copy).tensors
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize("name", ["../b.safetensors", "/etc/passwd"])
def test_an_index_may_only_name_files_beside_it(copy, name: str) -> None:
    split_in_two(copy, name)
    with pytest.raises(ValueError, match="not a file beside it"):
        load_reference(copy)


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": []}', '{"weight_map": {"x": 3}}'])
def test_a_broken_index_is_named(copy, text: str) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="not a safetensors index"):
        load_reference(copy)


def put_bias(value: float):
    return lambda tensors: tensors.update({BIAS: torch.full((64,), value)})


def test_biases_of_zeros_are_left_out(copy) -> None:
    """Some tools write them for every linear."""
    rewrite(copy, put_bias(0.0))
    assert BIAS not in load_reference(copy).tensors


def test_a_bias_that_would_not_be_computed_is_named(copy) -> None:
    rewrite(copy, put_bias(0.5))
    with pytest.raises(ValueError, match=rf"tensor {BIAS} is a bias"):
        load_reference(copy)


def test_a_layer_beyond_the_configs_is_named(copy) -> None:
    rewrite(copy, lambda tensors: tensors.update({DOWN.replace("1", "12"): torch.ones(1)}))
    rewrite(copy, lambda tensors: tensors.update({DOWN.replace("1", "9"): torch.ones(1)}))
    named = r"tensor model\.layers\.9\.mlp\.down_proj\.weight of layer 9 too"
    with pytest.raises(ValueError, match=rf"\(num_hidden_layers\), got {named}"):
        load_reference(copy)


def test_tensors_that_are_no_layer_are_ignored(copy) -> None:
    """As older tools wrote the frequencies of RoPE."""
    names = ("model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq", "other")
    rewrite(copy, lambda tensors: tensors.update({name: torch.ones(4) for name in names}))
    assert not set(names) & set(load_reference(copy).tensors)
