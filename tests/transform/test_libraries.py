"""The grids and codes of rtn, and GPTQ's error, against the libraries that made them known.

Runs where a library is installed (`pip install edgebench[formats]`; gptqmodel in an environment of
its own); the float64 oracles of the other files need none.
"""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from edgebench.transform.gptq import Gptq
from edgebench.transform.grid import Grid, GridForm, fit_grid, nearest_codes, values_of
from edgebench_kernels.formats import unpack_codes
from edgebench_kernels.quantize import quantize_rtn

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
]

GROUP = 64


def drawn(seed: int) -> Tensor:
    """Weights [48, 256] as a checkpoint has them, some groups all positive or all zero."""
    weight = torch.randn(48, 256, generator=torch.Generator().manual_seed(seed)) / 16
    weight[3, :GROUP] = weight[3, :GROUP].abs() + 0.1
    weight[5, GROUP : 2 * GROUP] = -weight[5, GROUP : 2 * GROUP].abs()
    weight[7, :GROUP] = 0
    return weight.half()


@pytest.mark.formats
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_rtn_is_that_of_compressed_tensors(symmetric: bool, seed: int) -> None:
    """Its scales are float32 and ours their fp16; on our grid its codes must be ours.

    It rounds w / s + z where we round w / s: a weight exactly between two codes may fall either
    way.

    A scale that lies on the edge between two fp16 numbers, and a zero point on the edge between
    two codes, may fall either way: one step at most, and for less than 1 % of the groups.
    """
    pytest.importorskip("compressed_tensors", reason="needs the extra 'formats'")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    args = QuantizationArgs(num_bits=4, symmetric=symmetric, strategy="channel")
    weight = drawn(seed)
    mine = quantize_rtn(weight.numpy(), GROUP, symmetric=symmetric)
    groups = weight.float().view(-1, GROUP)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scale, zero = calculate_qparams(low, high, args)
    own_scale = torch.from_numpy(mine.scale).view(-1, 1)
    own_zero = torch.from_numpy(mine.zero).view(-1, 1).int() - 8
    is_zero = (groups == 0).all(1)
    theirs = scale.half()[~is_zero]
    ulps = (theirs.view(torch.int16).int() - own_scale[~is_zero].view(torch.int16).int()).abs()
    assert int(ulps.max()) <= 1
    assert float((ulps > 0).float().mean()) < 0.01
    steps = (zero.int() - own_zero).abs()[~is_zero]
    assert int(steps.max()) <= 1
    assert float((steps > 0).float().mean()) < 0.01
    codes = quantize(groups, own_scale.float(), own_zero.to(torch.int8), args)
    own_codes = torch.from_numpy(unpack_codes(mine)).view(-1, GROUP).int() - 8
    differs = codes.int() != own_codes
    ratio = (groups / own_scale.float()).double()
    assert bool(((ratio - ratio.floor())[differs] == 0.5).all())
    assert float(differs.float().mean()) < 0.01
    if symmetric:
        assert not bool(differs.any())


def output_error(weight: Tensor, rough: Tensor, x: Tensor) -> float:
    return float((x.double() @ (weight - rough).double().T).square().sum())


def test_gptq_errs_no_more_than_gptqmodels() -> None:
    """Codes of GPTQ differ with every order of sums; the error that it minimizes does not."""
    pytest.importorskip("gptqmodel", reason="needs gptqmodel, in an environment of its own")
    logging.disable()
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ

    draw = torch.Generator().manual_seed(4)
    weight = drawn(4).float()
    x = torch.randn(600, 256, generator=draw) @ torch.randn(256, 256, generator=draw) / 16
    linear = torch.nn.Linear(256, 48, bias=False)
    linear.weight.data = weight.clone()
    config = QuantizeConfig(
        bits=4, group_size=GROUP, sym=False, desc_act=True, static_groups=True,
        damp_percent=0.01,
    )  # fmt: skip
    task = GPTQ(linear, qcfg=config)
    task.quantizer.configure(perchannel=True)
    task.add_batch(x[None], linear(x)[None])
    theirs = task.quantize()[0].float()
    logging.disable(logging.NOTSET)
    form = GridForm(group=GROUP)
    grid: Grid = fit_grid(weight, form)
    gptq = Gptq()
    mine = values_of(gptq.codes(weight, grid, gptq.learn(x)), grid)
    nearest = values_of(nearest_codes(weight, grid), grid)
    errors = [output_error(weight, rough, x) for rough in (mine, theirs, nearest)]
    assert errors[1] < 0.8 * errors[2]  # the library was driven rightly
    assert errors[0] < 1.1 * errors[1]  # theirs searches its grids a little differently
