"""GPTQ against OBQ's elimination in float64, with dead columns, ties of order and bad Hessians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgebench.errors import RunFailed
from edgebench.transform.gptq import Gptq, inverse_factor
from edgebench.transform.grid import Grid, GridForm, fit_grid, nearest_codes, values_of
from tests.transform import oracles

pytestmark = pytest.mark.torch


def straight(weight: Tensor, x: Tensor, grid: Grid, damping: float = 0.01) -> Tensor:
    scale, zero = (part.double().numpy() for part in grid.columns(weight.shape[1]))
    codes = oracles.gptq(weight.double().numpy(), x.double().numpy(), (scale, zero), damping)
    return torch.from_numpy(codes)


def output_error(weight: Tensor, codes: Tensor, grid: Grid, x: Tensor) -> float:
    return float((x @ (values_of(codes, grid) - weight).T).square().mean())


@pytest.mark.parametrize("size", [32, 64, None])
@pytest.mark.parametrize("symmetric", [False, True])
def test_in_float64_the_codes_are_the_formulas(
    skewed: tuple[Tensor, Tensor], size: int | None, symmetric: bool
) -> None:
    weight, x = skewed
    grid = fit_grid(weight, GridForm(group=size, symmetric=symmetric))
    gptq = Gptq()
    codes = gptq.codes(weight.double(), grid, gptq.learn(x.double()))
    assert torch.equal(codes, straight(weight, x, grid))
    assert not torch.equal(codes, nearest_codes(weight, grid))


def test_blocks_of_columns_do_not_show() -> None:
    """200 columns are a whole block and a part of one."""
    draw = torch.Generator().manual_seed(4)
    weight, x = torch.randn(6, 200, generator=draw), torch.randn(500, 200, generator=draw)
    x = x @ torch.randn(200, 200, generator=draw)
    grid = fit_grid(weight, GridForm(group=None))
    gptq = Gptq()
    codes = gptq.codes(weight.double(), grid, gptq.learn(x.double()))
    assert torch.equal(codes, straight(weight, x, grid))


def test_in_float32_it_beats_rounding_as_the_formula_does(skewed: tuple[Tensor, Tensor]) -> None:
    weight, x = skewed
    grid = fit_grid(weight, GridForm(group=32))
    gptq = Gptq()
    own = output_error(weight, gptq.codes(weight, grid, gptq.learn(x)), grid, x)
    assert own == pytest.approx(output_error(weight, straight(weight, x, grid), grid, x), rel=0.05)
    assert own < 0.5 * output_error(weight, nearest_codes(weight, grid), grid, x)


def test_dead_columns_keep_their_nearest_codes(skewed: tuple[Tensor, Tensor]) -> None:
    weight, x = skewed
    x = x.clone()
    x[:, [0, 17, 63]] = 0
    grid = fit_grid(weight, GridForm(group=32))
    gptq = Gptq()
    codes = gptq.codes(weight, grid, gptq.learn(x))
    dead = [0, 17, 63]
    assert torch.equal(codes[:, dead], nearest_codes(weight, grid)[:, dead])
    exact = gptq.codes(weight.double(), grid, gptq.learn(x.double()))
    assert torch.equal(exact, straight(weight, x, grid))


def test_an_input_of_zeros_is_plain_rounding(skewed: tuple[Tensor, Tensor]) -> None:
    weight, x = skewed
    grid = fit_grid(weight, GridForm(group=32))
    gptq = Gptq()
    codes = gptq.codes(weight, grid, gptq.learn(torch.zeros_like(x)))
    assert torch.equal(codes, nearest_codes(weight, grid))


def test_the_factor_is_that_of_the_inverse() -> None:
    x = torch.randn(90, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    hessian = x.T @ x
    before = hessian.clone()
    upper = inverse_factor(hessian, 0.01)
    assert torch.equal(hessian, before)  # it is shared by q, k and v
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(40, dtype=torch.float64)
    assert torch.equal(upper, upper.triu())
    assert torch.allclose(upper.T @ upper, torch.linalg.inv(damped))


def test_fewer_tokens_than_columns_still_have_a_factor(skewed: tuple[Tensor, Tensor]) -> None:
    weight, x = skewed
    grid = fit_grid(weight, GridForm(group=32))
    gptq = Gptq()
    codes = gptq.codes(weight, grid, gptq.learn(x[:5]))
    assert output_error(weight, codes, grid, x[:5]) < output_error(
        weight, nearest_codes(weight, grid), grid, x[:5]
    )


def test_a_hessian_without_a_factor_names_the_way_out() -> None:
    with pytest.raises(RunFailed, match="raise the damping"):
        inverse_factor(-torch.eye(4), 0.01)
    with pytest.raises(RunFailed, match="positive definite"):
        inverse_factor(torch.full((4, 4), float("nan")), 0.01)


def test_without_act_order_columns_go_as_they_stand(skewed: tuple[Tensor, Tensor]) -> None:
    weight, x = skewed
    grid = fit_grid(weight, GridForm(group=32))
    plain = Gptq(act_order=False)
    codes = plain.codes(weight, grid, plain.learn(x))
    first = nearest_codes(weight, grid)[:, 0]
    assert np.array_equal(codes[:, 0].numpy(), first.numpy())  # nothing came before it
