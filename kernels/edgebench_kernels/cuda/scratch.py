"""Memory that kernels share, one after the other: parts of sums, and counters that are zero."""

from __future__ import annotations

import torch
from torch import Tensor

from edgebench_kernels.cuda.geometry import Launch

_UNIT_BYTES = 1 << 20

SPLIT_K = ("w4a16_gemm", "w4a8_gemm")
"""The kernels of linears whose last two arguments are a workspace and counters."""


class Scratch:
    """Grows where a launch needs more; what was given out stays valid, as graphs point to it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._given: dict[str, list[Tensor]] = {
            "parts": [],
            "counters": [],
        }  # the last is the largest

    def of(self, plan: Launch) -> tuple[Tensor | None, Tensor | None]:
        """Workspace uint8 and counters int32 (u32 to kernels) of a launch; None for none."""
        units = -(-plan.workspace_bytes // _UNIT_BYTES)
        return (
            self._first("parts", plan.workspace_bytes, units * _UNIT_BYTES, torch.uint8),
            self._first("counters", plan.counters, 2 * plan.counters, torch.int32),
        )

    def _first(self, what: str, size: int, at_least: int, dtype: torch.dtype) -> Tensor | None:
        """The first `size` elements of the newest memory, which is made anew where it is short."""
        given = self._given[what]
        if size and (not given or len(given[-1]) < size):
            given.append(torch.zeros(at_least, dtype=dtype, device=self._device))
        return given[-1][:size] if size else None
