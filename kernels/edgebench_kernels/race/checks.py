"""Correctness before speed: a product held against float64, on outputs spread over all of N."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels import reference
from edgebench_kernels.formats import Int4Tensor, unpack_codes

FloatArray = NDArray[np.float32]
CHECKED_OUTPUTS = 256  # of N, first and last among them: enough to cross blocks, few for float64
UNIT_ROUNDOFF = 2.0**-24  # float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Some rows of a weight, the activations, and what the product is in float64."""

    rows: NDArray[np.intp]
    tensor: Int4Tensor
    x: NDArray[np.float32]
    exact: NDArray[np.float64]


def truth_of(tensor: Int4Tensor, x: NDArray[np.float32]) -> Truth:
    """Compute the outputs that contenders are held against."""
    n = tensor.shape[0]
    rows = np.unique(np.linspace(0, n - 1, min(n, CHECKED_OUTPUTS)).astype(np.intp))
    part = Int4Tensor(
        qweight=tensor.qweight[rows],
        scale=tensor.scale[rows],
        zero=tensor.zero[rows],
        group=tensor.group,
    )
    return Truth(rows=rows, tensor=part, x=x, exact=reference.linear_exact(part, x))


def relative_error(truth: Truth, y: NDArray[np.float32]) -> float:
    """|y - exact| / |exact| over the checked outputs, Frobenius norms."""
    difference = y[:, truth.rows] - truth.exact
    return float(np.linalg.norm(difference) / max(np.linalg.norm(truth.exact), 1e-300))


def summation_bound(truth: Truth, path: str) -> NDArray[np.float64]:
    """Largest |kernel - twin| [M, rows] that float32 arithmetic can cause.

    Inside a block integers are exact. Each of the B block sums is converted, scaled twice and
    added: at most B + 4 roundings of at most u each, of terms no larger than the sum over k of
    |x| scale (code + zero), since code products and zero-point products may be rounded apart.
    """
    k = truth.tensor.shape[1]
    block = reference.block_inputs(k, truth.tensor.group)
    quantized = reference.quantize_activations(truth.x, block, path)
    size = np.abs(quantized.v) * quantized.scale.astype(np.float64)[:, :, None]
    flat = size.reshape(truth.x.shape[0], -1)[:, :k]
    zero = np.repeat(truth.tensor.zero.astype(np.float64), truth.tensor.group, axis=1)
    scale = np.repeat(truth.tensor.scale.astype(np.float64), truth.tensor.group, axis=1)
    largest = flat @ (scale * (unpack_codes(truth.tensor) + zero)).T
    return (-(-k // block) + 4) * UNIT_ROUNDOFF * largest


def fault_of_ours(truth: Truth, y: NDArray[np.float32], path: str) -> str | None:
    """Why a product of ours must be refused, or None: it leaves its twin by more than the bound."""
    twin = reference.linear_twin(truth.tensor, truth.x, path)
    excess = np.abs(y[:, truth.rows] - twin) - summation_bound(truth, path)
    if (excess <= 0).all():
        return None
    return f"leaves its float64 twin by {np.nanmax(excess):.3g} more than float32 sums explain"


def fault_of_peer(error: float, tolerance: float) -> str | None:
    """Why a peer is not raced, or None."""
    if error <= tolerance:
        return None
    return f"relative error {error:.3g}, expected at most {tolerance:g}"
