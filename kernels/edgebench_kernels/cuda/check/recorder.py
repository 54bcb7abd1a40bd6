"""A `Launcher` that launches nothing, but remembers what a piece of code would launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.geometry import Launch
from edgebench_kernels.cuda.launcher import OVERLAP_CAPABILITY, Argument
from edgebench_kernels.cuda.scratch import Scratch


class Recorder:
    """See Launcher; `plans` has each different launch once."""

    def __init__(self, arch: str, multiprocessors: int, device: str = "meta") -> None:
        self.device = torch.device(device)
        self.arch = arch
        self.multiprocessors = multiprocessors
        self.shared_bytes = ARCHITECTURES[arch].shared_bytes
        self.can_overlap = ARCHITECTURES[arch].capability >= OVERLAP_CAPABILITY
        self.scratch = Scratch(self.device)
        self.plans: dict[tuple[str, tuple[tuple[str, int], ...]], Launch] = {}

    def run(self, plan: Launch, arguments: Sequence[Argument], *, overlap: bool = False) -> None:
        """Remember it."""
        del arguments, overlap
        self.plans.setdefault((plan.kernel, plan.macros), plan)

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """Call it once."""
        step()
        return step

    def memory_bytes(self) -> tuple[int, int]:
        """None."""
        return 0, 0
