"""The nearest-code test: honest rounding always passes, and two steps on one weight never do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from edgebench.checker.recipe import Recipe
from edgebench.checker.weights import compare
from edgebench_kernels.formats import Int4Tensor, unpack_codes
from edgebench_kernels.quantize import quantize_rtn

Weight = npt.NDArray[np.float16]
ROUNDING = Recipe(group=64, symmetric=False, choices={})


def weights() -> dict[str, Weight]:
    """Awkward weights [8, 128]."""
    draw = np.random.default_rng(0)
    normal = draw.normal(0, 0.05, (8, 128))
    lone = np.zeros((8, 128))
    lone[:, 3] = 1.0
    ties = np.round(draw.uniform(-7, 8, (8, 128)) * 2) / 2
    return {
        "normal": normal.astype(np.float16),
        "zeros": np.zeros((8, 128), np.float16),
        "one-hot": lone.astype(np.float16),
        "all positive": (np.abs(normal) + 0.5).astype(np.float16),
        "all negative": (-np.abs(normal) - 0.5).astype(np.float16),
        "ties": ties.astype(np.float16),
        "outlier": (normal * np.where(np.arange(128) == 7, 1000, 1)).astype(np.float16),
        "subnormal scales": (normal * 1e-3).astype(np.float16),
        "smallest": np.full((8, 128), 2.0**-24, np.float16),
        "largest": np.full((8, 128), 65504, np.float16),
    }


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", weights())
def test_round_to_nearest_passes(name: str, symmetric: bool, group: int) -> None:
    weight = weights()[name]
    tensor = quantize_rtn(weight, group, symmetric=symmetric)
    recipe = Recipe(group=group, symmetric=symmetric, choices={})
    assert list(compare("w", tensor, weight, recipe)) == []


def with_code(tensor: Int4Tensor, row: int, column: int, code: int) -> Int4Tensor:
    codes = unpack_codes(tensor)
    codes[row, column] = code
    return replace(tensor, qweight=codes[:, 0::2] | codes[:, 1::2] << 4)


@pytest.mark.parametrize("step", [-2, 2])
@pytest.mark.parametrize("column", [0, 1, 63, 64, 127])
def test_two_steps_on_one_weight_are_found(column: int, step: int) -> None:
    """One step may be a tie within the slack; two are at least one and a half off."""
    weight = weights()["normal"]
    tensor = quantize_rtn(weight, 64)
    near = int(unpack_codes(tensor)[5, column])
    if not 0 <= near + step <= 15:
        step = -step
    moved = with_code(tensor, 5, column, near + step)
    fault = next(iter(compare("w", moved, weight, ROUNDING)))
    assert fault.rule == "W-04"
    assert fault.came.startswith("1 of 1024 farther")


def test_a_dropped_weight_is_found() -> None:
    weight = weights()["one-hot"]
    tensor = quantize_rtn(weight, 64)
    far, zero = compare("w", with_code(tensor, 0, 3, int(tensor.zero[0, 0])), weight, ROUNDING)
    assert (far.rule, far.came) == ("W-04", "1 of 1024 farther, up to 15.00 steps")
    assert (zero.rule, zero.came) == ("W-12", "1 dropped")


def test_three_bits_are_too_coarse_for_int4() -> None:
    weight = weights()["normal"]
    found = compare("w", quantize_rtn(weight, 64, bits=3), weight, ROUNDING)
    assert {fault.rule for fault in found} == {"W-10"}


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_grid_that_is_a_little_wider_or_narrower(factor: float) -> None:
    weight = weights()["normal"]
    tensor = quantize_rtn(weight, 64)
    scale = (tensor.scale.astype(np.float32) * factor).astype(np.float16)
    [fault] = [
        fault
        for fault in compare("w", replace(tensor, scale=scale), weight, ROUNDING)
        if fault.rule == "W-10"
    ]
    assert fault.came == "16 of 16 others"


def test_a_zero_point_that_is_moved() -> None:
    weight = weights()["normal"]
    tensor = quantize_rtn(weight, 64)
    zero = tensor.zero.copy()
    zero[2, 1] += 1
    found = {f.rule: f for f in compare("w", replace(tensor, zero=zero), weight, ROUNDING)}
    assert found["W-10"].came == "1 of 16 others"


@pytest.mark.parametrize(("kept", "width"), [(2, 4), (4, 8)])
def test_a_pattern_is_named(kept: int, width: int) -> None:
    weight = weights()["normal"]
    grouped = weight.copy().reshape(-1, width)
    grouped[:, : width - kept] = 0
    found = compare("w", quantize_rtn(grouped.reshape(weight.shape), 64), weight, ROUNDING)
    zero = next(fault for fault in found if fault.rule == "W-12")
    assert zero.came.endswith(f"a {kept}:{width} pattern")


def test_a_large_matrix_is_compared_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgebench.checker.codes.CHUNK_WEIGHTS", 300)  # two rows at a time
    weight = weights()["normal"]
    tensor = quantize_rtn(weight, 64)
    assert list(compare("w", tensor, weight, ROUNDING)) == []
    near = int(unpack_codes(tensor)[7, 9])
    changed = with_code(tensor, 7, 9, near + (2 if near < 8 else -2))
    assert "W-04" in {fault.rule for fault in compare("w", changed, weight, ROUNDING)}
