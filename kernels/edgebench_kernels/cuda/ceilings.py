"""What a GPU reaches at best: its copy bandwidth, and cuBLAS's rate on tensor cores.

Measured by torch's own operations, so that no kernel of ours sets the bar that ours are held to.
Call it several times in a run; take the median.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from edgebench_kernels.ceilings import CeilingSample

CEILINGS = ("read_bandwidth", "fp16", "int8")
EDGE = 8192  # of the square matrices: 1.1 TFLOP a product
BUFFER_BYTES = 512 << 20  # eight times the largest L2 there is
BUDGET_S = 0.05  # of one call, after one operation to warm up
MOST_REPEATS = 200


class Timer(Protocol):
    """Seconds that `run`, called so many times, takes on the device."""

    def __call__(self, run: Callable[[], object], repeats: int) -> float:
        """Measure once everything before has ended."""
        ...


class Ceilings:
    """The ceilings of one device; memory is taken for a call and given back to torch."""

    def __init__(
        self,
        device: torch.device,
        timer: Timer | None = None,
        *,
        edge: int = EDGE,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self._device = device
        self._timer = EventTimer(device) if timer is None else timer
        self._edge, self._buffer_bytes = edge, buffer_bytes

    def measure(self, ceiling: str, threads: int = 1) -> CeilingSample:
        """Measure one ceiling for about BUDGET_S; `threads` of the host is only noted.

        Raises RuntimeError where this torch has no such product, ValueError for an unknown name.
        """
        instruction, run, amount = self._operation(ceiling)
        once_s = max(self._timer(run, 1), 1e-9)  # the first one warms up
        once_s = min(once_s, max(self._timer(run, 1), 1e-9))
        repeats = max(1, min(MOST_REPEATS, round(BUDGET_S / once_s)))
        value = amount * repeats / self._timer(run, repeats)
        return CeilingSample(ceiling=ceiling, instruction=instruction, threads=threads, value=value)

    def _operation(self, ceiling: str) -> tuple[str, Callable[[], object], int]:
        """What is measured, a call that does it once, and its bytes or operations."""
        if ceiling == "read_bandwidth":
            source = torch.zeros(self._buffer_bytes, dtype=torch.uint8, device=self._device)
            target = torch.empty_like(source)
            # A copy reads and writes: what it moves is twice the buffer.
            return "torch copy, read + write", lambda: target.copy_(source), 2 * source.nbytes
        operations = 2 * self._edge**3
        if ceiling == "fp16":
            a, b = (self._random().half() for _ in range(2))
            y = torch.empty_like(a)
            return "cublas fp16", lambda: torch.mm(a, b.T, out=y), operations
        if ceiling == "int8":
            a, b = (self._random().mul_(40).to(torch.int8) for _ in range(2))
            return "cublas int8", lambda: torch._int_mm(a, b.T), operations
        raise ValueError(f"[ceilings] must be one of {', '.join(CEILINGS)}, got '{ceiling}'")

    def _random(self) -> torch.Tensor:
        """Random numbers: zeros draw less power, so that clocks would be higher."""
        return torch.randn(self._edge, self._edge, device=self._device)


class EventTimer:
    """Time between two events on torch's current stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, run: Callable[[], object], repeats: int) -> float:
        """See Timer."""
        with torch.cuda.device(self._device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(repeats):
                run()
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end)) / 1000
