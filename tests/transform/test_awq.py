"""AWQ against its formula in float64, and what it is for: outlier channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgebench.transform.awq import Awq, clipped_grid, scaled_error
from edgebench.transform.fold import GroupView, settled, shared
from edgebench.transform.grid import GridForm, fit_grid, nearest_codes, rounded, values_of
from edgebench.transform.llama_layer import Layer
from edgebench.transform.scale_groups import SCALE_GROUPS, K, Q
from edgebench_kernels.engine import LlamaConfig
from tests.transform import oracles
from tests.transform.conftest import layer_tensors

pytestmark = pytest.mark.torch

INPUT, MIXED, MLP, INNER = SCALE_GROUPS


def view(config: LlamaConfig, group_index: int, size: int | None = 32) -> GroupView:
    """One group of a layer, with inputs that have the norm's outliers."""
    layer = Layer(config, layer_tensors(config, 0))
    group = SCALE_GROUPS[group_index]
    k = layer.weight(group.readers[0]).shape[1]
    x = torch.randn(60, k, generator=torch.Generator().manual_seed(5))
    x[:, [3, 40]] *= 16
    return GroupView(group=group, layer=layer, x=x, form=GridForm(group=size))


@pytest.mark.parametrize("group_index", [0, 2, 3])
@pytest.mark.parametrize("size", [32, None])
def test_the_exponent_is_that_of_least_error(
    config: LlamaConfig, group_index: int, size: int | None
) -> None:
    seen = view(config, group_index, size)
    k = seen.x.shape[1]
    norm = None if seen.norm is None else seen.norm.double().numpy()
    weights = [weight.double().numpy() for weight in seen.weights]
    errors = oracles.awq_errors(weights, seen.x.double().numpy(), size or k, norm)
    choice = Awq().search(seen)
    assert choice.exponent == int(np.argmin(errors)) / 20
    own = sum(scaled_error(w, choice.scale, seen.x, seen.form) for w in seen.weights)
    assert own == pytest.approx(min(errors), rel=1e-3)  # float32 codes may differ on ties
    assert min(errors) < 0.8 * errors[0]  # or the test would show nothing


def test_without_scales_the_error_is_that_of_rounding(config: LlamaConfig) -> None:
    seen = view(config, 0)
    weight = seen.weights[0]
    plain = ((seen.x @ (rounded(weight, seen.form) - weight).T) ** 2).sum()
    assert scaled_error(weight, torch.ones(64), seen.x, seen.form) == pytest.approx(float(plain))


def test_query_heads_of_one_v_output_share_a_scale(config: LlamaConfig) -> None:
    """4 heads, 2 kv heads: heads 0 and 1 read v's first, 2 and 3 its second."""
    scale = Awq().search(view(config, 1)).scale.view(4, 16)
    assert torch.equal(scale[0], scale[1])
    assert torch.equal(scale[2], scale[3])
    assert not torch.equal(scale[0], scale[2])


def test_shared_leaves_other_groups_alone(config: LlamaConfig) -> None:
    values = torch.rand(64)
    layer = Layer(config, layer_tensors(config, 0))
    assert torch.equal(shared(values, INPUT, layer), values)


def test_a_norm_carries_the_settled_scale_exactly() -> None:
    norm = torch.tensor([1.0, 0.0, 2.0**-13, 3.0, 5.0]).half().float()
    wanted = torch.tensor([0.3, 7.0, 100.0, float("nan"), 1e9])
    scale = settled(wanted, norm)
    folded = (norm / scale).half().float()
    assert torch.equal(folded * scale, norm)
    assert scale[1] == 1  # nothing to carry it
    assert scale[2] == 1  # would fall below fp16's normal range
    assert scale[3] == 1
    assert scale[4] == pytest.approx(1024, rel=2**-10)  # bounded


@pytest.mark.parametrize("size", [32, None])
def test_no_other_limit_clips_better(skewed: tuple[Tensor, Tensor], size: int | None) -> None:
    weight, x = skewed
    form = GridForm(group=size)
    grid = clipped_grid(weight, x, form)
    w, inputs = weight.double().numpy(), x.double().numpy()
    width = size or 64
    clipped = 0
    for n in range(len(w)):
        for g in range(64 // width):
            part = slice(g * width, (g + 1) * width)
            largest = np.abs(w[n, part]).max()
            errors = [
                oracles.clip_error(w[n, part], largest * (1 - i / 20), inputs[:, part])
                for i in range(10)
            ]
            # Our limit is one of the ten: find which by its grid, and hold it against the best.
            scales = [
                oracles.grid(np.clip(w[n, part], -limit, limit))[0]
                for limit in (largest * (1 - i / 20) for i in range(10))
            ]
            mine = int(np.argmin(np.abs(np.array(scales) - float(grid.scale[n, g]))))
            assert float(grid.scale[n, g]) == pytest.approx(scales[mine], rel=2**-10)
            assert errors[mine] <= min(errors) * (1 + 1e-3)
            clipped += mine > 0
    assert clipped > 0


def test_q_and_k_are_not_clipped(skewed: tuple[Tensor, Tensor]) -> None:
    weight, x = skewed
    form = GridForm(group=32)
    span = fit_grid(weight, form)
    for name in (Q, K):
        assert torch.equal(Awq().grid(name, weight, x, form).scale, span.scale)
    assert torch.equal(Awq(clip=False).grid("lm_head", weight, x, form).scale, span.scale)
    assert not torch.equal(Awq().grid("lm_head", weight, x, form).scale, span.scale)


def test_clipped_codes_saturate(skewed: tuple[Tensor, Tensor]) -> None:
    """A weight beyond the clipped range gets the code at its edge."""
    weight, x = skewed
    grid = clipped_grid(weight, x, GridForm(group=32))
    values = values_of(nearest_codes(weight, grid), grid)
    scale, _ = grid.columns(64)
    inside = (values - weight).abs() <= scale / 2 * 1.02
    assert not inside.all()
    assert (values.abs() <= weight.abs() + scale / 2 * 1.02)[~inside].all()
