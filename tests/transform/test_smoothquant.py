"""SmoothQuant against its formula in float64, and the ordering that its paper reports."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from edgebench.transform.fold import GroupView
from edgebench.transform.grid import GridForm
from edgebench.transform.llama_layer import Layer
from edgebench.transform.scale_groups import SCALE_GROUPS
from edgebench.transform.smoothquant import SmoothQuant, candidate, int8_blocks
from edgebench_kernels.engine import LlamaConfig
from tests.transform import oracles
from tests.transform.conftest import layer_tensors

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.85, 1.0])
def test_the_scales_are_the_formulas(skewed: tuple[Tensor, Tensor], alpha: float) -> None:
    weight, x = skewed
    x = x.clone()
    x[:, 9] = 0
    weights = [weight, weight[:5] * 3]
    mine = candidate(x, weights, alpha)
    theirs = oracles.smooth_scales(x.double().numpy(), [w.double().numpy() for w in weights], alpha)
    assert np.allclose(mine.numpy(), theirs, rtol=1e-5)


def eight_bit_error(x: Tensor, weight: Tensor, scale: Tensor) -> float:
    rough = int8_blocks(x / scale, 64) @ int8_blocks(weight * scale, 64).T
    return float((rough - x @ weight.T).square().mean())


def view(config: LlamaConfig) -> GroupView:
    x = torch.randn(60, 64, generator=torch.Generator().manual_seed(5))
    x[:, [3, 40]] *= 50
    layer = Layer(config, layer_tensors(config, 0))
    return GroupView(group=SCALE_GROUPS[0], layer=layer, x=x, form=GridForm(group=32))


def test_smooth_w8a8_beats_plain_w8a8_on_outliers(config: LlamaConfig) -> None:
    seen = view(config)
    searched = SmoothQuant(path="w8a8").search(seen).scale
    given = SmoothQuant(alpha=0.5).search(seen).scale
    for weight in seen.weights:
        plain = eight_bit_error(seen.x, weight, torch.ones(64))
        assert eight_bit_error(seen.x, weight, given) < 0.5 * plain
        assert eight_bit_error(seen.x, weight, searched) < 0.5 * plain


@pytest.mark.parametrize("path", ["w4a8", "w8a8"])
def test_no_other_alpha_is_better(config: LlamaConfig, path: Literal["w4a8", "w8a8"]) -> None:
    seen = view(config)
    best = SmoothQuant(path=path).search(seen)
    assert torch.equal(SmoothQuant(alpha=best.exponent).search(seen).scale, best.scale)

    def error(scale: Tensor) -> float:
        total = 0.0
        x = seen.x.double().numpy()
        for weight in seen.weights:
            scaled = (weight * scale).double().numpy()
            rough = oracles.round_trip(scaled, 32) if path == "w4a8" else int8(scaled, 64)
            inputs = int8((seen.x / scale).double().numpy(), 32 if path == "w4a8" else 64)
            total += float(((inputs @ rough.T - x @ weight.double().numpy().T) ** 2).sum())
        return total

    errors = [error(SmoothQuant(alpha=i / 20).search(seen).scale) for i in range(21)]
    assert error(best.scale) <= min(errors) * (1 + 1e-3)


def int8(rows: np.ndarray, block: int) -> np.ndarray:
    """Rows through 8 bits in blocks, in float64."""
    out = np.empty_like(rows)
    for n in range(len(rows)):
        for first in range(0, rows.shape[1], block):
            part = rows[n, first : first + block]
            scale = np.abs(part).max() / 127 or 1.0
            out[n, first : first + block] = np.clip(np.rint(part / scale), -127, 127) * scale
    return out


def test_only_what_a_norm_feeds_is_smoothed() -> None:
    handled = [SmoothQuant().handles(group) for group in SCALE_GROUPS]
    assert handled == [True, False, True, False]


def test_rows_of_zeros_stay_zero() -> None:
    assert torch.equal(int8_blocks(torch.zeros(2, 64), 32), torch.zeros(2, 64))
