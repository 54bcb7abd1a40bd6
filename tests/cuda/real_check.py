"""What a check of `real_shapes` is, and what it is run by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry

from .emulation import Argument, Launch, launch_of

Measured = dict[str, Any]


class Runner(Protocol):
    """The emulator, or a GPU."""

    def run(self, launches: Sequence[Launch]) -> list[list[NDArray]]:
        """The buffers of each launch after it ran."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The GPU that launches are tuned for."""

    arch: str
    multiprocessors: int
    shared_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A named check: `run` returns what it measured, or raises AssertionError.

    plans: all that it launches, to be compiled beforehand.
    """

    name: str
    plans: tuple[geometry.Launch, ...]
    run: Callable[[Runner], Measured]


def twice(runner: Runner, plan: geometry.Launch, arguments: Sequence[Argument]) -> list[NDArray]:
    """The buffers after a launch, and the same bits after it is launched again.

    But for its workspace, where the parts of sums stay that came first, which may be others.
    """
    first, again = runner.run([launch_of(plan, arguments)] * 2)
    for one, other in zip(first, again, strict=True):
        if plan.workspace_bytes and _is_workspace(one, plan):
            continue
        is_same = np.array_equal(_bytes(one), _bytes(other))
        assert is_same, f"{plan.kernel}: other bits the second time"
    return first


def _is_workspace(array: NDArray, plan: geometry.Launch) -> bool:
    """By what `linears.scratch` makes."""
    return array.dtype == np.uint8 and array.size == plan.workspace_bytes


def _bytes(array: NDArray) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)
