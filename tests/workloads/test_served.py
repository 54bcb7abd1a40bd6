"""A reference as other engines load it: whole directories, and GGUF in llama.cpp's layout."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open

from edgebench_workloads.catalog import find
from edgebench_workloads.served import (
    copy_directory,
    gguf_name,
    pairs_side_by_side,
    write_gguf,
)

HEADS, HEAD_DIM, INPUTS, POSITION = 3, 8, 5, 7
Floats = npt.NDArray[np.float64]


def rotated(pairs: Floats) -> Floats:
    """Rotate pairs [heads, D / 2, 2] by the angles of one position."""
    angles = POSITION / 10_000 ** (np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2))
    real, imaginary = pairs[..., 0], pairs[..., 1]
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], -1)


def test_rotating_side_by_side_is_rotating_halves_apart() -> None:
    draw = np.random.default_rng(1)
    weight = draw.normal(size=(HEADS * HEAD_DIM, INPUTS))
    entry = draw.normal(size=INPUTS)
    halves = (weight @ entry).reshape(HEADS, 2, HEAD_DIM // 2).swapaxes(1, 2)
    beside = (pairs_side_by_side(weight, HEADS) @ entry).reshape(HEADS, HEAD_DIM // 2, 2)
    np.testing.assert_array_equal(rotated(beside), rotated(halves))


def test_names_of_every_tensor_are_known() -> None:
    with safe_open(find("assistant").reference_directory() / "model.safetensors", "numpy") as file:
        names = {gguf_name(name) for name in file.keys()}  # noqa: SIM118
        assert len(names) == len(list(file.keys()))
    assert {"token_embd.weight", "output.weight", "blk.5.attn_q.weight"} <= names


def test_a_directory_is_whole(tmp_path: Path) -> None:
    directory = find("assistant").reference_directory()
    copy = copy_directory(directory, tmp_path / "assistant")
    for path in directory.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes()


def test_the_command_says_where_it_wrote(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgebench_workloads.served"]
    done = subprocess.run(
        [*command, "assistant", "--out", "there"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "there\n"
    bad = subprocess.run(
        [*command, "assistent", "--out", "x"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert bad.returncode == 1
    assert "did you mean 'assistant'" in bad.stderr


@pytest.mark.servers
def test_gguf_holds_the_same_numbers(tmp_path: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("gguf missing: pip install edgebench[servers]")
    from gguf import GGUFReader

    directory = find("assistant").reference_directory()
    reader = GGUFReader(write_gguf(directory, tmp_path / "assistant.gguf"))
    held = {tensor.name: tensor for tensor in reader.tensors}
    config = json.loads((directory / "config.json").read_text())
    with safe_open(directory / "model.safetensors", "numpy") as file:
        for name in file.keys():  # noqa: SIM118
            expected = file.get_tensor(name)
            if ".q_proj." in name:
                expected = pairs_side_by_side(expected, config["num_attention_heads"])
            elif ".k_proj." in name:
                expected = pairs_side_by_side(expected, config["num_key_value_heads"])
            came = np.asarray(held.pop(gguf_name(name)).data).reshape(expected.shape)
            np.testing.assert_array_equal(came, expected.astype(came.dtype))
    assert not held
    tokens = reader.fields["tokenizer.ggml.tokens"]
    assert len(tokens.data) == config["vocab_size"]


@pytest.mark.servers
@pytest.mark.torch
def test_transformers_reads_the_same_model_out_of_gguf(tmp_path: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("gguf missing: pip install edgebench[servers]")
    import torch
    from transformers import AutoModelForCausalLM

    directory = find("assistant").reference_directory()
    write_gguf(directory, tmp_path / "assistant.gguf")
    own = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    other = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="assistant.gguf", dtype=torch.float32
    )
    ids = torch.tensor([[1, 90, 889, 10, 86, 267, 298, 579, 320, 749, 912, 3]])
    with torch.no_grad():
        torch.testing.assert_close(other(ids).logits, own(ids).logits, rtol=0, atol=0)


@pytest.mark.servers
@pytest.mark.parametrize(("kind", "bits"), [("q4_0", 4), ("q8_0", 8)])
def test_blocks_are_rounded_to_nearest(kind: str, bits: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("gguf missing: pip install edgebench[servers]")
    from gguf import GGUFReader
    from gguf.quants import dequantize

    directory = find("assistant").reference_directory()
    reader = GGUFReader(write_gguf(directory, tmp_path / "assistant.gguf", kind))
    held = {tensor.name: tensor for tensor in reader.tensors}
    assert held["token_embd.weight"].tensor_type.name == "F16"
    with safe_open(directory / "model.safetensors", "numpy") as file:
        weight = file.get_tensor("lm_head.weight").astype(np.float32)
    tensor = held["output.weight"]
    assert tensor.tensor_type.name == kind.upper()
    blocks = weight.reshape(-1, 32)
    came = dequantize(np.asarray(tensor.data), tensor.tensor_type).reshape(blocks.shape)
    step = np.abs(blocks).max(axis=1, keepdims=True) / 2 ** (bits - 1)
    # q4_0 has no code for +8 steps, so the far end of a block may be a whole step away.
    assert (np.abs(came - blocks) <= 1.02 * step).all()
    assert (np.abs(came - blocks) <= 0.51 * step).mean() > 0.95
