"""Memory that kernels share, one after the other: parts of sums, and counters that are zero."""

from __future__ import annotations

import torch
from torch import Tensor

from edgebench_kernels.cuda.geometry import Launch

_UNIT_BYTES = 1 << 20


class Scratch:
    """Grows where a launch needs more; what was given out stays valid, as graphs point to it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._parts = torch.empty(0, dtype=torch.uint8, device=device)
        self._counters = torch.zeros(0, dtype=torch.int32, device=device)
        self._outgrown: list[Tensor] = []

    def of(self, plan: Launch) -> tuple[Tensor | None, Tensor | None]:
        """Workspace uint8 and counters int32 (u32 to kernels) of a launch; None for none."""
        size, count = plan.workspace_bytes, plan.counters
        if size > len(self._parts):
            self._outgrown.append(self._parts)
            size_bytes = -(-size // _UNIT_BYTES) * _UNIT_BYTES
            self._parts = torch.empty(size_bytes, dtype=torch.uint8, device=self._device)
        if count > len(self._counters):
            self._outgrown.append(self._counters)
            self._counters = torch.zeros(2 * count, dtype=torch.int32, device=self._device)
        return self._parts[:size] if size else None, self._counters[:count] if count else None
