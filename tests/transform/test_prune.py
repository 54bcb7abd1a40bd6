"""Pruning against float64 oracles, and against the models that it should equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgebench.errors import SpecError
from edgebench.transform import heads, layers, magnitude, units
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.llama_layer import Layer
from edgebench.transform.masks import keep_rows
from edgebench.transform.prune import prune
from edgebench.transform.pruning import Pattern, read_prune
from edgebench.transform.quantized import ReferenceLinears
from edgebench.transform.refit import refitted
from edgebench.transform.scale_groups import DOWN, LINEARS, O
from edgebench.transform.sparsegpt import SparseGpt
from edgebench.transform.wanda import Wanda
from edgebench_kernels.engine import LlamaWeights, RegimeChoice, build_fp16, weights_from_tensors
from tests.transform import prune_oracles as oracle

pytestmark = pytest.mark.torch

PATTERNS: list[tuple[str, float | tuple[int, int]]] = [
    ("0.5", 0.5), ("0.3", 0.3), ("2:4", (2, 4)), ("4:8", (4, 8)),
]  # fmt: skip


def pattern(text: str) -> Pattern:
    found = read_prune({"wanda": text}).pattern
    assert found is not None
    return found


@pytest.fixture
def weights(reference: ReferenceLinears) -> LlamaWeights:
    """The checkpoint of two layers."""
    tensors = {name: reference.tensor(name) for name in reference.tensor_names}
    return weights_from_tensors(reference.config(), tensors)


@pytest.fixture
def sequences(calibration: CalibrationSet) -> list[list[int]]:
    return [list(own) for own in calibration.sequences]


def f64(tensor: Tensor) -> Any:
    return tensor.double().numpy()


def logits(weights: LlamaWeights, ids: list[int]) -> Any:
    engine = build_fp16(weights, RegimeChoice.uniform("fp32"), max_length=len(ids), ops="torch")
    return engine.forward_all(torch.tensor([ids]), [len(ids)])[0].numpy()


@pytest.mark.parametrize(("text", "share"), PATTERNS)
def test_wanda_is_the_papers(
    skewed: tuple[Tensor, Tensor], text: str, share: float | tuple[int, int]
) -> None:
    weight, x = (part.double() for part in skewed)
    method = Wanda(pattern=pattern(text))
    made = method.pruned(weight, method.learn(x))
    assert np.array_equal(f64(made), oracle.wanda(f64(weight), f64(x), share))


@pytest.mark.parametrize("columns", [64, 192])  # one block, and one and a half
@pytest.mark.parametrize(("text", "share"), PATTERNS)
def test_sparsegpt_is_the_papers(columns: int, text: str, share: float | tuple[int, int]) -> None:
    """Two float64 orders of the same sums: equal zeros, values to 1e-8 of the largest."""
    draw = torch.Generator().manual_seed(columns)
    mix = torch.randn(columns, columns, generator=draw, dtype=torch.float64) / 8
    x = torch.randn(400, columns, generator=draw, dtype=torch.float64) @ mix
    x[:, 7] = 0  # a dead input
    weight = torch.randn(12, columns, generator=draw, dtype=torch.float64) / 8
    method = SparseGpt(pattern=pattern(text), damping=0.01)
    made = f64(method.pruned(weight, method.learn(x)))
    expected = oracle.sparsegpt(f64(weight), f64(x), share, 0.01, 128)
    assert np.array_equal(made == 0, expected == 0)
    assert np.abs(made - expected).max() <= 1e-8 * np.abs(expected).max()


def test_sparsegpt_makes_up_for_what_it_removes(skewed: tuple[Tensor, Tensor]) -> None:
    weight, x = (part.double() for part in skewed)
    own = SparseGpt(pattern=pattern("2:4"))
    plain = Wanda(pattern=pattern("2:4"))
    errors = [
        ((method.pruned(weight, method.learn(x)) - weight) @ x.T).square().sum()
        for method in (own, plain)
    ]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_magnitude_by_tensor_and_of_all(scope: Any) -> None:
    draw = torch.Generator().manual_seed(1)
    given = {"a": torch.randn(6, 8, generator=draw), "b": 3 * torch.randn(4, 8, generator=draw)}
    given["a"][0, :2] = 0.25  # a tie
    made = magnitude.pruned(given, pattern("0.5"), scope)
    flat = {name: np.abs(f64(w)).flatten() for name, w in given.items()}
    if scope == "tensor":
        gone = {(name, p) for name, own in flat.items() for p in oracle.lowest(own, len(own) // 2)}
    else:
        every = [(name, place) for name, own in flat.items() for place in range(len(own))]
        sizes = np.concatenate(list(flat.values()))
        gone = {every[place] for place in oracle.lowest(sizes, len(every) // 2)}
    for name, weight in given.items():
        expected = weight.flatten().clone()
        expected[[place for own, place in gone if own == name]] = 0
        assert torch.equal(made[name].flatten(), expected)


def test_magnitude_in_groups() -> None:
    weight = torch.tensor([[1.0, -3, 2, 0.5, 4, 4, 4, 4]])
    made = magnitude.pruned({"a": weight}, pattern("2:4"), "tensor")["a"]
    assert made.tolist() == [[0, -3, 2, 0, 0, 0, 4, 4]]  # of equals the earlier goes


def test_a_width_that_does_not_divide_is_refused() -> None:
    with pytest.raises(SpecError, match="multiple of 8 for 4:8, got K=12"):
        keep_rows(torch.ones(2, 12), pattern("4:8"))
    with pytest.raises(SpecError, match="which removes 0"):
        keep_rows(torch.ones(2, 12), pattern("0.01"))


@pytest.mark.parametrize(
    "step", [{"wanda": "2:4"}, {"sparsegpt": "2:4"}, {"magnitude": "2:4"}, {"wanda": "0.5"}]
)
def test_a_model_is_pruned_where_it_should_be(
    weights: LlamaWeights, sequences: list[list[int]], step: dict[str, Any]
) -> None:
    before = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    seen: list[tuple[int, int]] = []
    made = prune(weights, read_prune(step), sequences, lambda *at: seen.append(at))
    again = prune(weights, read_prune(step), sequences)
    for name, tensor in made.tensors.items():
        assert torch.equal(tensor, again.tensors[name]), name
        assert torch.equal(weights.tensors[name], before[name]), name
        is_linear = name.startswith("model.layers.") and "proj" in name
        if not is_linear:
            assert torch.equal(tensor, before[name]), name
        elif "2:4" in step.values():
            zeros = (tensor.view(-1, 4) == 0).sum(1)
            assert bool((zeros >= 2).all()), name
        else:
            assert float((tensor == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert seen == ([] if "magnitude" in step else [(1, 2), (2, 2)])


def test_later_layers_see_the_pruned_ones(
    weights: LlamaWeights, sequences: list[list[int]]
) -> None:
    """Layer 1 pruned after layer 0 differs from layer 1 pruned with the reference's inputs."""
    request = read_prune({"wanda": "0.5"})
    made = prune(weights, request, sequences)
    mixed = {
        name: weights.tensors[name] if ".layers.1." in name else tensor
        for name, tensor in made.tensors.items()
    }
    # Zeros have the lowest score, so pruning layer 0 again changes nothing in it.
    again = prune(replace(weights, tensors=mixed), request, sequences)
    assert all(torch.equal(again.tensors[name], t) for name, t in made.tensors.items())


def layer_of(weights: LlamaWeights, index: int) -> Layer:
    prefix = f"model.layers.{index}."
    own = {n.removeprefix(prefix): t for n, t in weights.tensors.items() if n.startswith(prefix)}
    return Layer(weights.config, own)


def test_heads_count_by_what_the_layer_loses(weights: LlamaWeights) -> None:
    x = torch.randn(30, 64, generator=torch.Generator().manual_seed(2))
    layer = layer_of(weights, 0)
    own = heads.scores(layer, x)
    columns = f64(layer.weight(O))
    for group in range(2):
        part = slice(32 * group, 32 * (group + 1))
        expected = oracle.energy(f64(x)[:, part], columns[:, part])
        assert float(own[group]) == pytest.approx(expected, rel=1e-5)


def test_units_count_by_what_the_layer_loses(weights: LlamaWeights) -> None:
    x = torch.randn(30, 96, generator=torch.Generator().manual_seed(2))
    layer = layer_of(weights, 1)
    own, columns = units.scores(layer, x), f64(layer.weight(DOWN))
    for unit in (0, 17, 95):
        expected = oracle.energy(f64(x)[:, unit : unit + 1], columns[:, unit : unit + 1])
        assert float(own[unit]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("step", "field", "before", "after"),
    [
        ({"heads": 0.5}, "kv_heads", 2, 1),
        ({"units": 1 / 3}, "intermediate_size", 96, 64),
        ({"layers": 1}, "layers", 2, 1),
    ],
)
def test_a_structured_cut_is_a_smaller_model(
    weights: LlamaWeights,
    sequences: list[list[int]],
    step: dict[str, Any],
    field: str,
    before: int,
    after: int,
) -> None:
    made = prune(weights, read_prune(step), sequences)
    assert (getattr(weights.config, field), getattr(made.config, field)) == (before, after)
    checked = weights_from_tensors(made.config, made.tensors)  # every shape by the new config
    assert sum(t.numel() for t in checked.tensors.values()) < sum(
        t.numel() for t in weights.tensors.values()
    )
    assert np.isfinite(logits(checked, [1, 2, 3, 4])).all()


@pytest.mark.parametrize("step", [{"heads": 0.5, "refit": False}, {"units": 1 / 3, "refit": False}])
def test_a_cut_equals_the_same_model_with_zeros(
    weights: LlamaWeights, sequences: list[list[int]], step: dict[str, Any]
) -> None:
    """What was cut out, set to zero in the whole model, gives the same logits to 1e-4.

    The columns that stay are recognised by their values; float32 sums differ in order only.
    """
    made = prune(weights, read_prune(step), sequences)
    name = O if "heads" in step else DOWN
    tensors = dict(weights.tensors)
    for index in range(weights.config.layers):
        key = f"model.layers.{index}.{name}.weight"
        left = {tuple(column.tolist()) for column in made.tensors[key].T}
        stay = torch.tensor([tuple(column.tolist()) in left for column in tensors[key].T])
        assert int(stay.sum()) == made.tensors[key].shape[1]
        tensors[key] = torch.where(stay, tensors[key], torch.zeros_like(tensors[key]))
    ids = [5, 9, 17, 3, 11, 2]
    whole, cut = logits(replace(weights, tensors=tensors), ids), logits(made, ids)
    assert np.abs(whole - cut).max() <= 1e-4 * np.abs(whole).max()


def test_a_refit_is_least_squares() -> None:
    """numpy's lstsq on the inputs, with rows that draw the weights to what they were."""
    draw = torch.Generator().manual_seed(6)
    mix = torch.randn(16, 16, generator=draw, dtype=torch.float64)
    x = torch.randn(50, 16, generator=draw, dtype=torch.float64) @ mix
    weight = torch.randn(5, 16, generator=draw, dtype=torch.float64)
    keep = torch.arange(16) % 3 != 0
    kept, gone = f64(x[:, keep]), f64(weight)[:, ~keep.numpy()]
    pull = np.sqrt(50 * 0.01 * (f64(x) ** 2).mean(0).mean()) * np.eye(kept.shape[1])
    aim = f64(x)[:, ~keep.numpy()] @ gone.T
    rows = np.vstack([kept, pull]), np.vstack([aim, np.zeros((kept.shape[1], 5))])
    expected = f64(weight[:, keep]) + np.linalg.lstsq(*rows, rcond=None)[0].T
    came = f64(refitted(weight, x, keep))
    assert np.abs(came - expected).max() <= 1e-9 * np.abs(expected).max()


@pytest.mark.parametrize("step", [{"heads": 0.5}, {"units": 1 / 3}])
def test_a_refit_brings_a_cut_nearer(
    weights: LlamaWeights, sequences: list[list[int]], step: dict[str, Any]
) -> None:
    """On the calibration set itself, by the summed squared error of the last hidden states."""
    exact = [logits(weights, ids) for ids in sequences]
    errors = []
    for refit in (True, False):
        made = prune(weights, read_prune({**step, "refit": refit}), sequences)
        came = [logits(made, ids) for ids in sequences]
        errors.append(sum(((a - b) ** 2).sum() for a, b in zip(came, exact, strict=True)))
    assert errors[0] < 0.9 * errors[1]


def test_block_influence_is_the_papers() -> None:
    draw = torch.Generator().manual_seed(4)
    before, change = (torch.randn(20, 64, generator=draw) for _ in range(2))
    own = layers.influence(before, before + 0.3 * change)
    expected = oracle.block_influence(f64(before), f64(before + 0.3 * change))
    assert own == pytest.approx(expected, rel=1e-5)


def test_the_layers_that_change_least_go() -> None:
    assert layers.kept([0.5, 0.1, 0.3, 0.1], 1) == [0, 2, 3]
    assert layers.kept([0.5, 0.1, 0.3, 0.1], 3) == [0]
    with pytest.raises(SpecError, match="leave at least one of 2, got 2"):
        layers.kept([0.5, 0.1], 2)


def test_the_layer_that_does_nothing_goes(
    weights: LlamaWeights, sequences: list[list[int]]
) -> None:
    """A first layer that adds nothing has influence 0; the second moves to its place."""
    tensors = dict(weights.tensors)
    for name in (O, DOWN):
        key = f"model.layers.0.{name}.weight"
        tensors[key] = torch.zeros_like(tensors[key])
    idle = replace(weights, tensors=tensors)
    made = prune(idle, read_prune({"layers": 1}), sequences)
    for name in LINEARS:
        moved, stood = (f"model.layers.{place}.{name}.weight" for place in (0, 1))
        assert torch.equal(made.tensors[moved], weights.tensors[stood])
    ids = [5, 9, 17, 3]
    assert np.abs(logits(idle, ids) - logits(made, ids)).max() <= 1e-4


def test_weights_that_are_not_finite_are_refused(
    weights: LlamaWeights, sequences: list[list[int]]
) -> None:
    broken = dict(weights.tensors)
    key = f"model.layers.1.{DOWN}.weight"
    broken[key] = broken[key].clone()
    broken[key][0, 0] = torch.nan
    with pytest.raises(SpecError, match=r"finite weights in model.layers.1.mlp.down_proj"):
        prune(replace(weights, tensors=broken), read_prune({"wanda": "2:4"}), sequences)
    with pytest.raises(SpecError, match="calibration sequences"):
        prune(weights, read_prune({"wanda": "2:4"}), [])
