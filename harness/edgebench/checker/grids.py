"""Grids recomputed: the scale and the zero point of every group follow from the weights.

    lo = min(w, 0)   hi = max(w, 0)   s = fp16((hi - lo) / 15)   z = round(-lo / s)

symmetric: s = fp16(2 max|w| / 15), z = 8. Where a range was searched (AWQ's clipping), lo and hi
stop at +-(1 - i/20) max|w| for one i in 0..9; any of these is accepted. Sums and products may have
been computed in another precision, so a scale may be that of a range 1e-5 wider or narrower, and a
zero point that of a quotient 1e-3 away: both far below what would move a code by a step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgebench.transform.constants import CLIP_SHRINKS, SMALLEST_GRID_SCALE
from edgebench_kernels.formats import MAX_CODE, SYMMETRIC_ZERO, Int4Tensor

RANGE_SLACK = 1e-5  # ours, relative: float32 against float64 products of weight and scale
ZERO_SLACK = 1e-3  # ours, in steps: 15 x RANGE_SLACK, and a tie

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def follows(
    grouped: Floats, tensor: Int4Tensor, rows: slice, symmetric: bool, is_clipped: bool
) -> Bools:
    """Which groups of some rows, weights [R, K/G, G], have a grid that follows: [R, K/G]."""
    low, high = grouped.min(axis=2), grouped.max(axis=2)
    largest = np.maximum(-low, high)
    scale, zero = tensor.scale[rows], tensor.zero[rows]
    found = np.zeros(scale.shape, dtype=np.bool_)
    for shrink in CLIP_SHRINKS if is_clipped else (1.0,):
        limit = largest * np.float32(shrink)
        bounds = np.clip(low, -limit, 0), np.clip(high, 0, limit)
        found |= _matches(*bounds, scale, zero, symmetric)
        if found.all():
            break
    return found


def _matches(
    low: Floats,
    high: Floats,
    scale: npt.NDArray[np.float16],
    zero: npt.NDArray[np.uint8],
    symmetric: bool,
) -> Bools:
    levels = np.float32(MAX_CODE)
    if symmetric:
        exact = np.maximum(-low, high) / (levels / 2)
    else:
        exact = high / levels - low / levels
    step = scale.astype(np.float32)
    rounding = np.spacing(scale).astype(np.float32) / 2
    is_near: Bools = np.abs(step - exact) <= rounding + RANGE_SLACK * exact
    is_near |= (step == SMALLEST_GRID_SCALE) & (exact < SMALLEST_GRID_SCALE)
    if symmetric:
        return np.asarray(is_near & (zero == SYMMETRIC_ZERO))
    with np.errstate(over="ignore"):
        target = np.clip(-low / step, 0, levels)
    matching: Bools = is_near & (np.abs(zero - target) <= 0.5 + ZERO_SLACK)
    return matching
