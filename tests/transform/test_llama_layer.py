"""The walk through a layer against float64 loops: GQA, Qwen's norms, biases, fused projections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from edgebench.transform.fold import apply_fold, settled, shared
from edgebench.transform.llama_layer import Layer, Prompts, walk
from edgebench.transform.scale_groups import DOWN, GATE, SCALE_GROUPS, UP, K, O, Q, ScaleGroup, V
from edgebench_kernels.engine import LlamaConfig
from tests.transform import oracles
from tests.transform.conftest import layer_tensors

pytestmark = pytest.mark.torch

LENGTHS = [5, 1, 9]


def hidden_states() -> Tensor:
    return torch.randn(sum(LENGTHS), 64, generator=torch.Generator().manual_seed(8))


def variant(config: LlamaConfig, name: str) -> dict[str, Tensor]:
    """A Llama layer, or one as Qwen2 (biases) and Qwen3 (norms per head) have it."""
    tensors = layer_tensors(config, 0)
    draw = torch.Generator().manual_seed(9)
    if name == "qwen2":
        for part in ("q", "k", "v"):
            rows = tensors[f"self_attn.{part}_proj.weight"].shape[0]
            tensors[f"self_attn.{part}_proj.bias"] = torch.randn(rows, generator=draw).half()
    if name == "qwen3":
        for part in ("q", "k"):
            norm = (torch.rand(config.head_dim, generator=draw) + 0.5).half()
            tensors[f"self_attn.{part}_norm.weight"] = norm
    return tensors


def run(layer: Layer) -> Tensor:
    return walk(layer, hidden_states(), Prompts(layer.config, LENGTHS, torch.device("cpu")))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_the_walk_computes_the_layer(config: LlamaConfig, name: str, kv_heads: int) -> None:
    config = replace(config, kv_heads=kv_heads)
    tensors = variant(config, name)
    mine = run(Layer(config, tensors)).numpy()
    exact = {key: tensor.double().numpy() for key, tensor in tensors.items()}
    parts = np.split(hidden_states().double().numpy(), np.cumsum(LENGTHS)[:-1])
    theirs = [oracles.layer(exact, part, 4, kv_heads, config.rms_norm_eps) for part in parts]
    assert np.allclose(mine, np.concatenate(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("group", SCALE_GROUPS, ids=lambda group: group.feeder)
def test_folding_changes_no_function(
    config: LlamaConfig, group: ScaleGroup, name: str, kv_heads: int
) -> None:
    config = replace(config, kv_heads=kv_heads)
    layer = Layer(config, variant(config, name))
    before = run(layer)
    k = layer.weight(group.readers[0]).shape[1]
    wanted = torch.rand(k, generator=torch.Generator().manual_seed(1)) * 4 + 0.1
    norm = layer.weight(group.feeder) if group.feeder_is_norm else None
    folded = layer.copy()
    apply_fold(folded, group, settled(shared(wanted, group, layer), norm))
    assert torch.allclose(run(folded), before, rtol=1e-4, atol=1e-4)
    assert not torch.equal(folded.weight(group.readers[0]), layer.weight(group.readers[0]))
    assert torch.equal(run(layer), before)  # the original is untouched


def test_every_linear_reads_one_group() -> None:
    readers = [name for group in SCALE_GROUPS for name in group.readers]
    assert sorted(readers) == sorted((Q, K, V, O, GATE, UP, DOWN))


def test_a_walk_goes_on_with_what_a_visit_replaced(config: LlamaConfig) -> None:
    layer = Layer(config, layer_tensors(config, 0))
    seen: list[tuple[str, Tensor]] = []

    def visit(group: ScaleGroup, x: Tensor) -> None:
        seen.append((group.feeder, x))
        for name in group.readers:
            layer.replace(name, torch.zeros_like(layer.weight(name)))

    out = walk(layer, hidden_states(), Prompts(config, LENGTHS, torch.device("cpu")), visit)
    assert [feeder for feeder, _ in seen] == [group.feeder for group in SCALE_GROUPS]
    assert torch.equal(seen[1][1], torch.zeros(15, 64))  # v gave nothing
    assert torch.equal(out, hidden_states())


def test_fused_projections_are_the_same_layer(config: LlamaConfig) -> None:
    parts = layer_tensors(config, 0)
    fused = dict(parts)
    for name, own in (("self_attn.qkv_proj", (Q, K, V)), ("mlp.gate_up_proj", (GATE, UP))):
        fused[f"{name}.weight"] = torch.cat([fused.pop(f"{part}.weight") for part in own])
    layer = Layer(config, fused)
    assert torch.equal(run(layer), run(Layer(config, parts)))
    assert layer.sources() == {
        O: (O,),
        DOWN: (DOWN,),
        "self_attn.qkv_proj": (Q, K, V),
        "mlp.gate_up_proj": (GATE, UP),
    }
    assert layer.copy().sources() == layer.sources()
