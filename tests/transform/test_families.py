"""Each family's layers against transformers' own modules, and folds that change no logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgebench.transform.awq import Awq
from edgebench.transform.calibrated import Method, Outcome, load_tensors, quantize
from edgebench.transform.grid import GridForm
from edgebench.transform.llama_layer import SCALE_GROUPS, Layer, Prompts, V, walk
from edgebench.transform.loaded import LoadedLinears, linears_of
from edgebench.transform.smoothquant import SmoothQuant
from edgebench_kernels.engine import load_reference
from tests.harness.tiny_model import write_model

pytestmark = pytest.mark.torch

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-3": ("llama", {"rope_parameters": LLAMA3}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": None, "head_dim": 32}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32, "num_key_value_heads": 4}),
}
LENGTHS = [40, 1, 17]


def sequences() -> list[list[int]]:
    draw = np.random.default_rng(5)
    return [draw.integers(0, 256, length).tolist() for length in LENGTHS]


@pytest.fixture(params=FAMILIES)
def made(request, tmp_path: Path) -> tuple[Any, LoadedLinears]:
    """A model as transformers has it in fp32, and its directory as transforms see it.

    Norms are no ones, and the biases of q, k and v no zeros, as in a trained model.
    """
    model_type, change = FAMILIES[request.param]
    model = write_model(tmp_path, model_type, **change)
    return model, linears_of(load_reference(tmp_path), {})


@torch.inference_mode()
def test_a_layer_computes_what_transformers_computes(made) -> None:
    model, linears = made
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, args, out: seen.append((args[0][0], out[0] if out.dim() == 3 else out))
        )
        for layer in model.model.layers
    ]
    for ids in sequences():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    config = linears.config()
    prompts = Prompts(config, LENGTHS, torch.device("cpu"))
    for index in range(config.layers):
        inputs, outputs = (
            torch.cat([pair[place] for pair in seen[index :: config.layers]]) for place in (0, 1)
        )
        prefix = f"model.layers.{index}."
        layer = Layer(config, load_tensors(linears, prefix, torch.device("cpu")))
        assert torch.allclose(walk(layer, inputs, prompts), outputs, rtol=1e-4, atol=1e-4)


def folded_state(model, outcome: Outcome) -> dict[str, Tensor]:
    """The model's weights in fp32 with every fold that an outcome tells, and nothing rounded."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    heads = model.config.num_attention_heads // model.config.num_key_value_heads
    for path, array in outcome.scales.items():
        scale = torch.from_numpy(array)
        if path in outcome.norms:
            state[f"{path}.weight"] = torch.from_numpy(outcome.norms[path]).float()
        else:
            state[f"{path}.weight"] /= scale[:, None]
        if path in outcome.biases:
            state[f"{path}.bias"] = torch.from_numpy(outcome.biases[path]).float()
        for group in SCALE_GROUPS:
            if not path.endswith(group.feeder):
                continue
            prefix = path.removesuffix(group.feeder)
            wide = scale
            if group.feeder == V:  # each v output is read by all query heads of its group
                wide = scale.view(model.config.num_key_value_heads, 1, -1)
                wide = wide.expand(-1, heads, -1).reshape(-1)
            for reader in group.readers:
                state[f"{prefix}{reader}.weight"] *= wide
    return state


@pytest.mark.parametrize("smoother", [Awq(), SmoothQuant(alpha=0.7)], ids=["awq", "smoothquant"])
@torch.inference_mode()
def test_folding_keeps_the_logits(made, smoother) -> None:
    model, linears = made
    # lm_head of a tied model has no scale of its own in transformers, so it stays out.
    linears = LoadedLinears(
        weights=linears.weights,
        sha256=linears.sha256,
        names=tuple(name for name in linears.names if name != "lm_head"),
    )
    outcome = quantize(linears, sequences(), Method(form=GridForm(group=32), smoother=smoother))
    assert "lm_head" not in outcome.tensors
    ids = torch.tensor([np.random.default_rng(6).integers(0, 256, 30).tolist()])
    before = model(ids).logits
    scales = [np.ptp(array) for array in outcome.scales.values()]
    assert max(scales) > 0.1  # something was folded
    model.load_state_dict(folded_state(model, outcome))
    after = model(ids).logits
    # Norms and biases of fp16: 2^-11 of each, through two layers.
    assert float((after - before).abs().max()) < 4e-3 * float(before.abs().max())


def test_qwen2s_bias_of_v_is_folded(tmp_path: Path) -> None:
    write_model(tmp_path, "qwen2")
    linears = linears_of(load_reference(tmp_path), {})
    outcome = quantize(linears, sequences(), Method(form=GridForm(group=32), smoother=Awq()))
    path = "model.layers.1.self_attn.v_proj"
    before = linears.tensor(f"{path}.bias").numpy().astype(np.float64)
    assert np.abs(before).max() > 0.01
    expected = before / outcome.scales[path]
    assert np.allclose(outcome.biases[path], expected, rtol=2**-10, atol=2**-20)
    assert outcome.biases.keys() == {f"model.layers.{index}.self_attn.v_proj" for index in (0, 1)}


def test_a_checkpoint_in_shards_is_the_same(tmp_path: Path) -> None:
    model = write_model(tmp_path / "one", "qwen3")
    model.half().save_pretrained(tmp_path / "many", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    method = Method(form=GridForm(group=32), smoother=Awq())
    made = [
        quantize(linears_of(load_reference(tmp_path / name), {}), sequences(), method)
        for name in ("one", "many")
    ]
    one, many = (outcome.tensors for outcome in made)
    assert one.keys() == many.keys()
    assert all(np.array_equal(one[name].qweight, many[name].qweight) for name in one)


def test_a_family_with_fused_projections_is_refused_by_name(tmp_path: Path) -> None:
    write_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"got 'phi3' with architectures=.*Phi3ForCausalLM"):
        load_reference(tmp_path)
