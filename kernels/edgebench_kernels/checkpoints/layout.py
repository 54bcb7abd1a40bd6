"""What a 4-bit checkpoint format is to this package: a row of functions, checked parts, errors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import GROUPS, Int4Tensor, check_group, pack_codes

Array = NDArray[Any]
Parts = Mapping[str, Array]
"""The tensors of one linear by their last name, e.g. qweight, qzeros, scales."""


class UnsupportedLayout(ValueError):
    """A checkpoint whose layout this package does not read or write; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One way in which a config says that some of its linears are stored."""

    group: int | None
    """Inputs that share a scale; -1 is all of K; None where the config does not say."""
    is_symmetric: bool
    """Without zero points."""

    def has_group(self, k: int, group: int) -> bool:
        """Whether a linear with K inputs is stored in this group; a larger one than K is K."""
        if self.group is None:
            return True
        return group == (k if self.group == -1 else min(self.group, k))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """What `quantization_config` says about every quantized linear of a checkpoint."""

    group: int | None
    """Inputs that share a scale; -1 is all K; None where each tensor's own scales say it."""
    is_symmetric: bool
    """Every zero point is 8."""
    needs_order: bool = False
    """Inputs may have been put in another order, which each linear's g_idx then says."""
    schemes: frozenset[Scheme] = frozenset()
    """What a linear may be, where the config says it of targets; empty: not said."""

    def of(self, k: int) -> int:
        """The group of a linear with K inputs."""
        if self.group is None:
            raise ValueError("[checkpoint] this format's group is told by its scales")
        return k if self.group == -1 else self.group


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One 4-bit checkpoint format, both ways."""

    name: str
    summary: str
    required: tuple[str, ...]
    """Parts that every quantized linear has; the first tells which linears are quantized."""
    optional: tuple[str, ...] = ()
    holds_zeros: bool = True
    """Whether `encode` writes zero points other than 8."""
    states_one_group: bool = False
    """Whether its config has one group for all linears."""
    grouping: Callable[[Mapping[str, Any]], Grouping]
    """From `quantization_config`; raises UnsupportedLayout naming what it does not read."""
    decode: Callable[[Parts, Grouping], Int4Tensor]
    """Raises ValueError for a wrong dtype or shape, UnsupportedLayout for another layout."""
    encode: Callable[[Int4Tensor], Parts]
    """The inverse of `decode`; raises UnsupportedLayout for what the format cannot hold."""
    config: Callable[[Mapping[str, Int4Tensor], Collection[str]], dict[str, Any]]
    """`quantization_config` of these tensors, with the linears that stay as they were."""


def require_array(
    parts: Parts, name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> Array:
    """One part, of exactly this dtype and shape."""
    array = parts[name]
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"{name} must be {np.dtype(dtype).name} {list(shape)}, "
            f"got {array.dtype} {list(array.shape)}"
        )
    return array


def require_words(parts: Parts, name: str) -> NDArray[np.int32]:
    """One part of packed words: int32 with two dimensions, neither empty."""
    array = parts[name]
    if array.dtype != np.int32 or array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be int32 [., .], got {array.dtype} {list(array.shape)}")
    return array


def groups_of(k: int, group: int) -> int:
    """K / G; ValueError for a group that the canonical form does not have or K does not hold."""
    check_group(k, group, where="checkpoint")
    return k // group


def exact_scales(scales: Array, shape: tuple[int, int]) -> NDArray[np.float16]:
    """Scales as fp16 [N, K/G], each bit kept: a value that fp16 cannot hold is refused."""
    if scales.dtype not in (np.float16, np.float32) or scales.shape != shape:
        raise ValueError(
            f"scales must be fp16, bf16 or fp32 {list(shape)}, "
            f"got {scales.dtype} {list(scales.shape)}"
        )
    if not np.isfinite(scales).all():
        raise ValueError("scales must be finite, got NaN or infinity")
    with np.errstate(over="ignore"):
        half = scales.astype(np.float16)
    if scales.dtype != np.float16 and (half.astype(np.float32) != scales).any():
        raise UnsupportedLayout(
            "scales are stored with more range or precision than fp16 holds, and are not rounded "
            "here; store them as fp16 first"
        )
    return np.ascontiguousarray(half)


def canonical(
    codes: NDArray[np.uint8], scale: NDArray[np.float16], zero: NDArray[np.uint8], group: int
) -> Int4Tensor:
    """codes uint8 [N, K], scale and zero [N, K/G] -> the canonical tensor."""
    return Int4Tensor(
        qweight=np.ascontiguousarray(pack_codes(codes)),
        scale=scale,
        zero=np.ascontiguousarray(zero),
        group=group,
    )


def require_trivial_order(g_idx: Array | None, k: int, group: int, *, is_needed: bool) -> None:
    """Refuse a g_idx int32 [K] that puts inputs into any but consecutive groups."""
    if g_idx is None:
        if is_needed:
            raise ValueError("the checkpoint says act-order, and g_idx, which holds it, is missing")
        return
    if g_idx.shape != (k,) or g_idx.dtype.kind not in "iu":
        raise ValueError(f"g_idx must be integers [{k}], got {g_idx.dtype} {list(g_idx.shape)}")
    if (g_idx != np.arange(k) // group).any():
        raise UnsupportedLayout(
            "g_idx puts inputs into groups that are not consecutive (act-order, desc_act=true); "
            "the canonical form has consecutive groups only; quantize with desc_act=false or "
            "static groups"
        )


def require_symmetric(zero: NDArray[np.uint8], hint: str) -> None:
    """Refuse zero points other than 8 in a checkpoint that says it is symmetric."""
    if (zero != 8).any():
        found = sorted({int(value) for value in np.unique(zero)})
        raise UnsupportedLayout(
            f"the checkpoint says symmetric, whose zero point is 8, and stores {found}; {hint}"
        )


def one_group(tensors: Mapping[str, Int4Tensor], format_name: str) -> int:
    """The group that all tensors share, -1 where each spans its K; for formats with one number."""
    groups = {tensor.group for tensor in tensors.values()}
    if len(groups) == 1 and groups <= set(GROUPS):
        return groups.pop()
    if all(tensor.group == tensor.shape[1] for tensor in tensors.values()):
        return -1
    raise UnsupportedLayout(
        f"[export] {format_name} states one group for all linears, got {sorted(groups)}; "
        "quantize with a group that divides every K, e.g. rtn:group=32"
    )


def require_width(n: int, format_name: str, what: str, multiple: int = 8) -> None:
    """Refuse a side that does not fill the format's words."""
    if n % multiple:
        raise UnsupportedLayout(
            f"{format_name} needs {what} to be a multiple of {multiple}, got {n}"
        )
