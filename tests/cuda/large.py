"""The linears for many tokens as emulated launches: int8 activations, and Hopper's warp groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import (
    cluster_geometry,
    geometry,
    large_geometry,
    multicast_geometry,
)
from edgebench_kernels.cuda.geometry import Linear
from edgebench_kernels.cuda.large_geometry import A8Scales
from edgebench_kernels.cuda.layout import kernel_group
from edgebench_kernels.cuda.multicast_geometry import MulticastTuning
from edgebench_kernels.formats import Int4Tensor, unpack_codes
from edgebench_kernels.reference import quantize_activations

from .cases import Case, case_of
from .emulation import (
    SCHEDULES,
    Emulation,
    EmulationError,
    Late,
    Launch,
    Patch,
    Schedule,
)
from .real_check import planned_x, scratch
from .w4a16 import RAISED, variant_of

ORDER = np.arange(16).reshape(2, 8).T.reshape(-1)  # byte i of 16 holds this input: w4_bytes.cuh
NUMBERS = "numbers"
OUTSIDE = "AddressSanitizer: heap-"  # past the end, or in what was freed


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeCase:
    """A case, how it is launched, and what the kernel is given as activations."""

    plan: geometry.Launch
    case: Case
    activations: tuple[NDArray, ...]
    k: int

    def launch(self, schedule: Schedule, patches: tuple[Patch, ...] = ()) -> Launch:
        case, plan = self.case, self.plan
        sizes = (np.int32(case.y.shape[0]), np.int32(case.weights.n), np.int32(self.k))
        residual = None if case.residual is None else Late(case.residual)
        x, *others = self.activations
        late = (planned_x(plan, x, Late(x)), *map(Late, others))
        pointers = (*late, case.weights.data, case.bias, residual, case.output())
        return Launch(
            variant=variant_of(plan, patches),
            grid=plan.grid,
            threads=plan.threads,
            shared_bytes=plan.shared_bytes,
            cluster=plan.cluster,
            arguments=[*pointers, *sizes, *scratch(plan)],
            schedule=schedule,
        )

    def with_activations(self, *activations: NDArray) -> LargeCase:
        """The same weights and the same truth, and other bytes for the kernel."""
        return replace(self, activations=activations)

    def outputs(self, arrays: Sequence[NDArray]) -> tuple[NDArray, NDArray | None]:
        """y, and where K is split the counters, out of the buffers that a launch leaves."""
        return (arrays[-3], arrays[-1]) if self.plan.counters else (arrays[-1], None)


def wgmma_case(m: int, tensor: Int4Tensor, epilogue: int = 0, **tuning: int) -> LargeCase:
    """A case of `w4a16_wgmma`."""
    case = case_of(m, tensor, epilogue, is_scale_rounded=True)
    linear = _linear(case, case.x.shape[1])
    plan = large_geometry.w4a16_wgmma(linear, large_geometry.WgmmaTuning(**tuning))
    return LargeCase(plan=plan, case=case, activations=(case.x,), k=linear.k)


def multicast_case(m: int, tensor: Int4Tensor, epilogue: int = 0, **tuning: int) -> LargeCase:
    """A case of `w4a16_multicast`."""
    case = case_of(m, tensor, epilogue, is_scale_rounded=True)
    linear = _linear(case, case.x.shape[1])
    plan = multicast_geometry.w4a16_multicast(linear, MulticastTuning(**tuning))
    return LargeCase(plan=plan, case=case, activations=(case.x,), k=linear.k)


def cluster_case(m: int, tensor: Int4Tensor, epilogue: int = 0, **tuning: int) -> LargeCase:
    """A case of `w4a16_cluster`."""
    case = case_of(m, tensor, epilogue, raised=RAISED)
    linear = _linear(case, case.x.shape[1])
    plan = cluster_geometry.w4a16_cluster(linear, cluster_geometry.ClusterTuning(**tuning))
    return LargeCase(plan=plan, case=case, activations=(case.x,), k=linear.k)


def a8_case(
    m: int,
    tensor: Int4Tensor,
    epilogue: int = 0,
    *,
    x: NDArray[np.float16] | None = None,
    scales: A8Scales = A8Scales.GROUP,
    is_wgmma: bool = False,
    **tuning: int,
) -> LargeCase:
    """A case of `w4a8_gemm` or `w4a8_wgmma`: x is quantized as `reference.py` does."""
    k = tensor.shape[1]
    if x is None:
        x = np.random.default_rng(7).standard_normal((m, k)).astype(np.float16)
    group = kernel_group(k, tensor.group)
    is_token_scale = scales is not A8Scales.GROUP
    path = "w4a8-token" if is_token_scale else "w4a8"
    quantized = quantize_activations(x.astype(np.float32), group, path)
    case = case_of(
        m, tensor, epilogue, x=x, linear=exact_linear(tensor, group, quantized.v, quantized.scale)
    )
    linear = _linear(case, k)
    if is_wgmma:
        wgmma = large_geometry.WgmmaTuning(**tuning)
        plan = large_geometry.w4a8_wgmma(linear, wgmma, scales)
    else:
        mma = large_geometry.A8Tuning(**tuning)
        plan = large_geometry.w4a8_gemm(linear, mma, scales)
    scale = quantized.scale[:, 0] if is_token_scale else np.ascontiguousarray(quantized.scale.T)
    return LargeCase(plan=plan, case=case, activations=(interleaved(quantized.v), scale), k=k)


def interleaved(v: NDArray[np.int32]) -> NDArray[np.int8]:
    """Codes [M, K] in the order in which integer tensor cores meet a word of weights."""
    return v.reshape(len(v), -1, 16)[:, :, ORDER].reshape(len(v), -1).astype(np.int8)


def exact_linear(
    tensor: Int4Tensor, group: int, v: NDArray[np.int32], sx: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """y of integers that are exact within a group, and how far the kernel's fp32 may be from it.

    Each group's integer is scaled twice, by products rounded to one part in 2^24 each; sx loses its
    last two bits, at most three parts in 2^23; then groups (and parts of K) are added, each sum
    rounded to one part in 2^24 of at most the sum of magnitudes.
    """
    n, k = tensor.shape
    groups = k // group
    of_tensor = np.arange(groups) * group // tensor.group
    code = unpack_codes(tensor).astype(np.int64) - np.repeat(
        tensor.zero.astype(np.int64), tensor.group, axis=1
    )
    integers = np.einsum("ngk,mgk->mng", code.reshape(n, groups, group), v.astype(np.int64))
    scale = tensor.scale[:, of_tensor].astype(np.float64)
    terms = integers * scale[None] * sx.astype(np.float64)[:, None, :]
    parts = (3 * 2.0**-23 + (groups + 16) * 2.0**-24) * np.abs(terms).sum(axis=2)
    return terms.sum(axis=2), parts


def check_in_all_schedules(
    program: Emulation, of: LargeCase, patches: tuple[Patch, ...] = ()
) -> NDArray:
    """The outputs; EmulationError or AssertionError unless all schedules give the same truth."""
    launches = [of.launch(schedule, patches) for schedule in SCHEDULES]
    answers = [of.outputs(arrays) for arrays in program.run(launches)]
    for y, counters in answers:
        of.case.check(y)
        assert counters is None or not counters.any(), "counters must be left zero"
        assert np.array_equal(y, answers[0][0]), "the order of events must not change a bit"
    return answers[0][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A patch of a case's kernel; `seen`: how it shows; `in_all`: in every one of `schedules`."""

    of: LargeCase
    patch: Patch
    seen: str = NUMBERS
    in_all: bool = False
    schedules: tuple[Schedule, ...] = SCHEDULES


def check_bug(program: Emulation, bug: Bug) -> None:
    """Raise AssertionError unless the bug is caught, as it says."""
    caught = [_how_it_shows(program, bug, schedule) for schedule in bug.schedules]
    assert any(caught)
    assert all(caught) or not bug.in_all, caught
    for text in filter(None, caught):
        assert re.search(bug.seen, text), text


def _how_it_shows(program: Emulation, bug: Bug, schedule: Schedule) -> str:
    """What the emulator says, or NUMBERS where the results are wrong; empty where all is well."""
    try:
        [arrays] = program.run([bug.of.launch(schedule, (bug.patch,))])
    except EmulationError as err:
        return str(err)
    y, counters = bug.of.outputs(arrays)
    is_wrong = bug.of.case.is_wrong(y).any() or (counters is not None and counters.any())
    return NUMBERS if is_wrong else ""


def _linear(case: Case, k: int) -> Linear:
    return Linear(
        m=case.y.shape[0], n=case.weights.n, k=k, group=case.weights.group, epilogue=case.epilogue
    )
