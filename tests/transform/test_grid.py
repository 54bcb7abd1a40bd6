"""Grids: the same bits as the numpy quantizer, whatever the group, the bits and the form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgebench.errors import SpecError
from edgebench.transform.grid import (
    GridForm,
    check_weight,
    fit_grid,
    nearest_codes,
    rounded,
    to_int4,
    values_of,
)
from edgebench_kernels.formats import dequantize, tensor_sha256
from edgebench_kernels.quantize import quantize_rtn

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("group", [32, 64, None])
@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_bits_are_those_of_quantize_rtn(group: int | None, bits: int, symmetric: bool) -> None:
    weight = np.random.default_rng(0).normal(0, 0.05, (7, 192)).astype(np.float16)
    weight[0] = 0
    weight[1, :64] = np.abs(weight[1, :64]) + np.float16(0.5)  # on one side of 0
    weight[2] = np.float16(1e-7)  # the scale is subnormal
    weight[3, :32] = np.arange(-16, 16) / np.float16(2)  # exact halves: ties
    form = GridForm(group=group, bits=bits, symmetric=symmetric)
    one = torch.from_numpy(weight.astype(np.float32))
    grid = fit_grid(one, form)
    mine = to_int4(nearest_codes(one, grid), grid)
    theirs = quantize_rtn(weight, group or 192, bits=bits, symmetric=symmetric)
    assert tensor_sha256(mine) == tensor_sha256(theirs)
    assert np.array_equal(rounded(one, form).numpy(), dequantize(theirs))
    assert np.array_equal(values_of(nearest_codes(one, grid), grid).numpy(), dequantize(theirs))


def test_a_group_that_does_not_divide_gives_way_to_a_smaller_one() -> None:
    assert GridForm(group=128).group_of(192) == 64
    assert GridForm(group=None).group_of(50) == 50


def test_a_width_that_no_group_divides_is_refused() -> None:
    with pytest.raises(SpecError, match="K must be a multiple of 32, got K=50"):
        GridForm(group=32).group_of(50)


def test_a_scale_beyond_fp16_is_refused() -> None:
    with pytest.raises(SpecError, match="scales that fit in fp16"):
        fit_grid(torch.full((2, 32), 1e6), GridForm(group=32))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(bad: float) -> None:
    weight = torch.zeros(2, 32)
    weight[1, 3] = bad
    with pytest.raises(SpecError, match=r"finite weights in lm_head"):
        check_weight("lm_head", weight)
