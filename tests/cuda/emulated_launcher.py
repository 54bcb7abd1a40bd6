"""A `Launcher` whose kernels are emulated on the host: the engine's own code, without a GPU.

Tensors lie on the CPU. Each launch is a process of the emulator that gets exactly the bytes of each
tensor argument, so that a buffer which the engine made too small is AddressSanitizer's error, and
gives them back afterwards.

Kernels must be known before they are compiled: a scenario is run once with `Collector`, which
launches nothing, and then with `EmulatedLauncher` on a program of what was collected.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from edgebench_kernels.cuda import geometry
from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.kernels import KERNELS
from edgebench_kernels.cuda.launcher import Argument
from edgebench_kernels.cuda.scratch import Scratch

from . import emulation
from .emulation import SCHEDULES, Emulation, Late, SameAs, Tiled, Variant, launch_of, variant_of

Span = tuple[int, int]  # addresses, the last one past the end

SCALARS = {"int32": np.int32, "int64": np.int64, "float32": np.float32}
CPU = torch.device("cpu")
ALIGNMENT = 16  # of every tensor that a kernel is given


@dataclass
class Collector:
    """Remembers what it was asked to launch, and launches nothing."""

    arch: str = "sm_90a"
    multiprocessors: int = 3
    can_overlap: bool = True
    device: torch.device = CPU
    scratch: Scratch = field(default_factory=lambda: Scratch(CPU))
    variants: dict[Variant, int] = field(default_factory=dict)
    captures: int = 0

    @property
    def shared_bytes(self) -> int:
        return ARCHITECTURES[self.arch].shared_bytes

    def run(
        self, plan: geometry.Launch, arguments: Sequence[Argument], *, overlap: bool = False
    ) -> None:
        del overlap
        assert len(arguments) == len(KERNELS[plan.kernel].parameters), plan.kernel
        variant = variant_of(plan)
        self.variants[variant] = self.variants.get(variant, 0) + 1

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        step()
        return step

    def memory_bytes(self) -> tuple[int, int]:
        return 1 << 30, 2 << 30


@dataclass
class EmulatedLauncher(Collector):
    """Launches in the emulator, in a schedule that changes from launch to launch.

    spoil: changes the arguments of a launch before it is emulated, to plant bugs. What the launch
    before has written reaches an overlapping one only after that has waited for it.
    """

    program: Emulation | None = None
    spoil: Callable[[str, list[Argument]], list[Argument]] | None = None
    launches: int = 0
    written: list[Span] = field(default_factory=list)
    """By the launch before."""

    def run(
        self, plan: geometry.Launch, arguments: Sequence[Argument], *, overlap: bool = False
    ) -> None:
        super().run(plan, arguments, overlap=overlap)
        assert self.program is not None
        if self.spoil is not None:
            arguments = self.spoil(plan.kernel, list(arguments))
        schedule = SCHEDULES[self.launches % len(SCHEDULES)]
        self.launches += 1
        late = self.written if overlap else []
        launch = launch_of(plan, _arguments(plan, arguments, late), schedule)
        [arrays] = self.program.run([launch])
        self.written = []
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        for tensor, array in zip(_distinct(tensors), arrays, strict=True):
            if not np.array_equal(_bytes(tensor), array):
                self.written.append(_span(tensor))
            _bytes(tensor)[:] = array


def _arguments(
    plan: geometry.Launch, arguments: Sequence[Argument], late: Sequence[Span]
) -> list[emulation.Argument]:
    """The emulator's arguments; the same tensor twice is the same buffer."""
    kernel = plan.kernel
    given: list[emulation.Argument] = []
    seen: dict[int, int] = {}
    for kind, argument in zip(KERNELS[kernel].parameters, arguments, strict=True):
        if isinstance(argument, Tensor):
            place = argument.data_ptr()
            assert place % ALIGNMENT == 0, f"{kernel}: argument {len(given)} is misaligned"
            if place in seen:
                given.append(SameAs(seen[place]))
            else:
                seen[place] = len(given)
                is_late = any(_meet(_span(argument), span) for span in late)
                buffer = Late(_bytes(argument)) if is_late else _bytes(argument)
                is_tiled = kind == "tensor_map"
                given.append(Tiled(buffer, _shape(argument), plan.box_rows) if is_tiled else buffer)
        else:
            given.append(None if argument is None else SCALARS[kind](argument))
    _check_apart([a for a in arguments if isinstance(a, Tensor)])
    return given


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({tensor.data_ptr(): tensor for tensor in reversed(tensors)}.values())[::-1]


def _span(tensor: Tensor) -> Span:
    return tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes


def _meet(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _shape(tensor: Tensor) -> tuple[int, int]:
    rows, columns = tensor.shape
    return rows, columns


def _bytes(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as uint8 [size]."""
    assert tensor.is_contiguous(), "a kernel's tensor must be contiguous"
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _check_apart(tensors: Sequence[Tensor]) -> None:
    """Tensors that overlap without being the same would be torn apart."""
    spans = {_span(tensor) for tensor in tensors}
    for one, other in itertools.combinations(spans, 2):
        assert not _meet(one, other), "tensors of one launch overlap"
