"""The decode step's row operations against float64, on every instruction set of this machine.

u = 2^-24 is half an fp32 ulp of 1; a sum of n products is off by at most n u times the sum of their
magnitudes, in whatever order it is made (Higham, Accuracy and Stability, section 3.1).
"""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels import native

pytestmark = pytest.mark.native

U = 2.0**-24
LENGTHS = (1, 7, 8, 15, 16, 17, 96, 255, 1000)


@pytest.fixture(params=native.supported_isas() if native.is_available() else [], autouse=True)
def isa(request, restored_native) -> str:
    """Each instruction set in turn."""
    native.force_isa(request.param)
    return request.param


def add_norm(x, delta, weight, eps=1e-5):
    y = np.full_like(x, np.nan)
    pointer = None if delta is None else delta.ctypes.data
    native.check(
        native.library().eb_add_norm(
            0, *x.shape, x.ctypes.data, pointer, weight.ctypes.data, eps, y.ctypes.data
        ),
        "test",
    )
    return y


def swiglu(gate_up):
    rows, width = gate_up.shape
    y = np.full((rows, width // 2), np.nan, np.float32)
    door = native.library().eb_swiglu
    native.check(door(0, rows, width // 2, gate_up.ctypes.data, y.ctypes.data), "test")
    return y


def argmax(x) -> tuple[list[int], int]:
    ids = np.full(len(x), -1, np.int64)
    error = native.library().eb_argmax(*x.shape, x.ctypes.data, ids.ctypes.data)
    return ids.tolist(), error


def floats(*shape: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    return (size * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("has_delta", [False, True])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e6])
def test_norm_of_a_sum(n: int, has_delta: bool, size: float) -> None:
    x, weight = floats(3, n, size=size), floats(n, seed=1)
    delta = floats(3, n, seed=2, size=size) if has_delta else None
    summed = x + delta if has_delta else x.copy()  # one fp32 addition has one result
    y = add_norm(x, delta, weight)
    np.testing.assert_array_equal(x, summed)
    wide = summed.astype(np.float64)
    exact = weight * wide / np.sqrt((wide**2).mean(-1, keepdims=True) + np.float32(1e-5))
    # The sum of squares to n u, halved by the root; root, quotient and two products to u each.
    assert (np.abs(y - exact) <= np.abs(exact) * (n / 2 + 6) * U + 1e-44).all()


def test_norm_rows_run_on_all_threads_alike() -> None:
    x, weight = floats(300, 256), floats(256, seed=1)
    together = add_norm(x.copy(), None, weight)
    alone = np.concatenate([add_norm(row[None].copy(), None, weight) for row in x])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e19])
def test_norm_of_what_is_not_finite_or_overflows_is_nan(bad: float) -> None:
    x = floats(2, 40)
    x[1, 33] = bad
    y = add_norm(x, None, floats(40, seed=1))
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1]).all()


@pytest.mark.parametrize("n", LENGTHS)
def test_swiglu(n: int) -> None:
    gate_up = floats(3, 2 * n)
    gate_up[:, :n] *= 20  # both ends of the exponential
    gate, up = (half.astype(np.float64) for half in np.split(gate_up, 2, axis=1))
    exact = gate / (1 + np.exp(-gate)) * up
    # exp to 2 ulp = 4 u, a sum, a quotient and a product to u each; exp is clamped at e^88.37.
    bound = np.abs(exact) * 8 * U + np.abs(gate * up) * 1e-38
    assert (np.abs(swiglu(gate_up) - exact) <= bound).all()


def test_swiglu_of_extremes() -> None:
    gate_up = np.array([[200, -200, 0, np.nan, 1, 1, 2, 3, 4, np.inf]], np.float32)
    y = swiglu(gate_up)[0]
    assert y[0] == 200
    assert abs(y[1]) < 1e-30
    assert y[2] == 0
    assert np.isnan(y[3])
    assert y[4] == np.inf


@pytest.mark.parametrize("n", [*LENGTHS, 256, 257, 511])
def test_argmax_is_the_first_of_the_largest(n: int) -> None:
    x = floats(5, n)
    x[1, [n // 3, n - 1]] = 9  # a tie
    x[2] = -np.inf
    x[2, n // 2] = -5
    x[3] = -7  # all equal
    assert argmax(x) == (x.argmax(-1).tolist(), native.OK)


@pytest.mark.parametrize(("value", "place"), [(np.nan, 0), (np.nan, 299), (np.inf, 270)])
def test_argmax_tells_what_is_not_finite(value: float, place: int) -> None:
    x = floats(3, 300)
    x[1, place] = value
    ids, error = argmax(x)
    assert error == native.NOT_FINITE
    assert ids[1] == place
    assert argmax(np.full((1, 3), -np.inf, np.float32))[1] == native.NOT_FINITE


def test_refused_arguments() -> None:
    library, x = native.library(), floats(2, 4)
    here = x.ctypes.data
    assert library.eb_add_norm(0, 2, 4, None, None, here, 1e-5, here) == native.NULL
    assert library.eb_add_norm(0, 0, 4, here, None, here, 1e-5, here) == native.SHAPE
    assert library.eb_add_norm(0, 2, 4, here, None, here, -1.0, here) == native.SHAPE
    assert library.eb_add_norm(0, 2, 4, here, None, here, np.nan, here) == native.SHAPE
    assert library.eb_swiglu(0, 2, -4, here, here) == native.SHAPE
    assert library.eb_swiglu(0, 1 << 30, 1 << 30, here, here) == native.SHAPE
    assert library.eb_swiglu(0, 2, 4, here, None) == native.NULL
    assert library.eb_argmax(2, 0, here, here) == native.SHAPE
    assert library.eb_argmax(2, 4, here, None) == native.NULL
