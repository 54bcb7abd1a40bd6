"""What a `share` step asks for, and its k-means: few values that weights have in common.

    min over codebook c, assignment a:  sum_i (w_i - c_a(i))^2       over the weights that are not 0

Deep Compression (Han et al., ICLR 2016, section 3): each layer has its own codebook of 2^bits
values, which begin evenly between the smallest and the largest weight (linear initialisation, the
best of the three that the paper compares). Zeros stay zero and need no value. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgebench.errors import SpecError

NAME = "share"
PARAMETERS: Mapping[str, type] = {"bits": int}
BITS = (1, 8)
DEFAULT_BITS = 5
MAX_ROUNDS = 300  # of Lloyd's; what still moves then moves by nothing that fp16 keeps

Fp16 = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRequest:
    """One `share` step, checked."""

    bits: int = DEFAULT_BITS
    """Of a value's number; a layer has at most 2^bits values beside zero."""


def read_share(parameters: Mapping[str, object]) -> ShareRequest:
    """Check the parameters of a step; SpecError names the limit."""
    bits = int(str(parameters.get("bits", DEFAULT_BITS)))
    if not BITS[0] <= bits <= BITS[1]:
        raise SpecError(f"[share] expected bits to be {BITS[0]}..{BITS[1]}, got {bits}")
    return ShareRequest(bits=bits)


def shared(weight: Fp16, bits: int) -> Fp16:
    """The weight with at most 2^bits distinct values beside zero, in its shape."""
    flat = weight.reshape(-1).astype(np.float64)
    places = np.flatnonzero(flat)
    found = np.zeros(flat.shape, np.float16)
    if len(places):
        codebook, numbers = k_means(flat[places], 1 << bits)
        found[places] = codebook.astype(np.float16)[numbers]
    return np.where(found == 0, np.float16(0), found).reshape(weight.shape)


def k_means(
    values: npt.NDArray[np.float64], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """At most `count` ascending centres and each value's; a centre that nobody takes stays."""
    distinct = np.unique(values)
    if len(distinct) <= count:
        return distinct, np.searchsorted(distinct, values)
    centres = np.linspace(values.min(), values.max(), count)
    numbers = _nearest(values, centres)
    for _ in range(MAX_ROUNDS):
        taken = np.bincount(numbers, minlength=count)
        sums = np.bincount(numbers, weights=values, minlength=count)
        centres = np.sort(np.where(taken > 0, sums / np.maximum(taken, 1), centres))
        again = _nearest(values, centres)
        if (again == numbers).all():
            break
        numbers = again
    return centres, numbers


def _nearest(
    values: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
