"""Codes held against the weights that they stand for: nearest, or nearest after error feedback.

For a weight w on a grid (s, z) the target is t = clamp(w / s + z, 0, 15), and a code q is near
when |q - t| <= 1/2 + NEAREST_CODE_SLACK_STEPS: it is the nearest, up to ties that another precision
breaks the other way. A code that stands for zero (q = z) and is not near dropped its weight: that
zero is unjustified.

GPTQ's codes are nearest to weights that make up for the errors before them, and those hang on every
code and on every bit of a sum. So nothing is quantized again: the errors are those of the codes
that were submitted ("teacher-forced"). With H + damping = R R^T, R upper triangular, and
U = R^-1 in GPTQ's own recursion, the compensated weight c of column j is given by

    c_j - q_j = ((W - Q) R)_j / R_jj

so one product of the submission's own rounding errors with R shows every compensated weight at
once, whatever the order in which anybody added them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgebench.checker.grids import follows
from edgebench.checker.recipe import Recipe
from edgebench.profiles import NEAREST_CODE_SLACK_STEPS
from edgebench.transform.constants import ORDER_STEPS
from edgebench_kernels.formats import MAX_CODE, Int4Tensor, dequantize, unpack_codes

CHUNK_WEIGHTS = 1 << 20  # temporaries of some 10 MB
FACTOR_BLOCKS = 8  # of R's columns: what lies below the diagonal is not multiplied
PATTERNS = ((2, 4), (4, 8))  # N:M that sparse tensor cores execute
PATTERN_SHARE = 0.99  # ours: of groups of M with at least N zeros
MIN_PATTERN_ZEROS = 0.01  # ours: unjustified ones; a tensor of few large weights has one honestly

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the tests say of one tensor."""

    name: str
    weights: int
    near: int
    """Codes that are near their targets."""
    farthest: float
    """Of any code from its target, in steps."""
    groups: int
    off_grid: int
    """Groups whose grid does not follow from their weights."""
    unjustified_zeros: int
    pattern: str | None
    """'2:4' or '4:8' where there are unjustified zeros and they make one."""
    is_fed_back: bool

    @property
    def near_share(self) -> float:
        """Of the codes, 0..1."""
        return self.near / self.weights

    @property
    def zero_share(self) -> float:
        """Unjustified zeros, of all weights, 0..1."""
        return self.unjustified_zeros / self.weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """The order of the columns [K], and R [K, K] of them in that order, each column over R_jj."""

    order: npt.NDArray[np.int64]
    factor: Floats


def learn(x: Floats, recipe: Recipe) -> Feedback:
    """What the inputs f32 [S, K] of a group say; the factor is computed in float64.

    Raises LinAlgError where the Hessian has no factor.
    """
    hessian = (x.T @ x) / np.float32(len(x))
    order = np.arange(len(hessian))
    if recipe.act_order:
        with np.errstate(divide="ignore"):
            steps = np.round(np.log2(np.diag(hessian).astype(np.float64)) * ORDER_STEPS)
        order = np.argsort(-steps, kind="stable")
    backward = order[::-1]
    damped = hessian[np.ix_(backward, backward)].astype(np.float64)
    diagonal = np.einsum("ii->i", damped)  # a view
    diagonal[diagonal == 0] = 1
    diagonal += recipe.damping * diagonal.mean()
    lower = np.linalg.cholesky(damped)
    del damped
    factor = lower[::-1, ::-1]
    return Feedback(order=order, factor=(factor / np.diag(factor)).astype(np.float32))


def judge(
    name: str,
    weight: Floats,
    tensor: Int4Tensor,
    recipe: Recipe,
    *,
    is_clipped: bool,
    feedback: Feedback | None = None,
) -> Judged:
    """Hold a tensor against the weight f32 [N, K] that it must stand for, scales folded."""
    near = zeros = off_grid = 0
    farthest = 0.0
    codes = unpack_codes(tensor)
    for rows in _row_chunks(weight):
        grouped = weight[rows].reshape(-1, tensor.scale.shape[1], tensor.group)
        on_grid = follows(grouped, tensor, rows, recipe.symmetric, is_clipped)
        off_grid += int((~on_grid).sum())
        step = tensor.scale[rows].astype(np.float32)[:, :, None]
        zero = tensor.zero[rows].astype(np.float32)[:, :, None]
        code = codes[rows].astype(np.float32).reshape(grouped.shape)
        if feedback is None:
            target = grouped / step + zero
        else:
            rounding = grouped - (code - zero) * step
            target = code + _compensated(rounding, feedback) / step
        distance = np.abs(code - np.clip(target, 0, MAX_CODE))
        is_near = distance <= 0.5 + NEAREST_CODE_SLACK_STEPS
        near += int(is_near.sum())
        zeros += int((~is_near & (code == zero)).sum())
        farthest = max(farthest, float(distance.max()))
    return Judged(
        name=name,
        weights=weight.size,
        near=near,
        farthest=farthest,
        groups=tensor.scale.size,
        off_grid=off_grid,
        unjustified_zeros=zeros,
        pattern=_pattern(tensor) if zeros > MIN_PATTERN_ZEROS * weight.size else None,
        is_fed_back=feedback is not None,
    )


def _compensated(rounding: Floats, feedback: Feedback) -> Floats:
    """Compensated weights less the submitted ones, [R, K/G, G], from w - q in the same shape."""
    flat = rounding.reshape(len(rounding), -1)[:, feedback.order]
    factor = feedback.factor
    width = -(-len(factor) // FACTOR_BLOCKS)
    out = np.empty_like(flat)
    for first in range(0, len(factor), width):
        last = min(first + width, len(factor))
        out[:, feedback.order[first:last]] = flat[:, :last] @ factor[:last, first:last]
    return out.reshape(rounding.shape)


def _pattern(tensor: Int4Tensor) -> str | None:
    is_zero = dequantize(tensor) == 0
    for kept, width in PATTERNS:
        if is_zero.shape[1] % width == 0:
            count = is_zero.reshape(-1, width).sum(axis=1)
            if (count >= width - kept).mean() >= PATTERN_SHARE:
                return f"{kept}:{width}"
    return None


def _row_chunks(weight: Floats) -> Iterator[slice]:
    rows = max(1, CHUNK_WEIGHTS // weight.shape[1])
    for first in range(0, len(weight), rows):
        yield slice(first, min(len(weight), first + rows))
