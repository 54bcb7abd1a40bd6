"""The INT4 linears as emulated launches: each kernel's cases, with the truth about its outputs."""

from __future__ import annotations

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
from edgebench_kernels.cuda.scratch import SPLIT_K
from edgebench_kernels.formats import Int4Tensor, unpack_codes
from edgebench_kernels.reference import quantize_activations

from .cases import Case, case_of
from .emulation import SCHEDULES, Argument, Late, Launch, Patch, SameAs, Schedule, Tiled, launch_of

ORDER = np.arange(16).reshape(2, 8).T.reshape(-1)  # byte i of 16 holds this input: w4_bytes.cuh
NO_STREAM = (None, None, None, np.int32(0), np.float32(0))
RAISED = 256  # how much larger the GEMV's codes are while it sums


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCase:
    """A case, how it is launched, and what the kernel is given as activations."""

    plan: geometry.Launch
    case: Case
    activations: tuple[NDArray, ...]
    k: int

    def launch(
        self,
        schedule: Schedule = SCHEDULES[0],
        patches: tuple[Patch, ...] = (),
        *,
        is_in_place: bool = False,
    ) -> Launch:
        """In place, y is the residual's buffer. What the kernel before writes comes late."""
        case, plan = self.case, self.plan
        late = Late if dict(plan.macros).get("EB_DEPENDENT", 1) else _in_time
        x, *others = self.activations
        arguments: list[Argument] = [planned_x(plan, x, late(x)), *map(late, others)]
        arguments += [case.weights.data, case.bias]
        arguments.append(None if case.residual is None else late(case.residual))
        arguments.append(SameAs(len(arguments) - 1) if is_in_place else case.output())
        arguments += [np.int32(case.y.shape[0]), np.int32(case.weights.n), np.int32(self.k)]
        arguments += NO_STREAM if plan.kernel == "w4a16_gemv" else scratch(plan)
        return launch_of(plan, arguments, schedule, patches)

    def with_activations(self, *activations: NDArray) -> LinearCase:
        """The same weights and the same truth, and other bytes for the kernel."""
        return replace(self, activations=activations)

    def outputs(self, results: Sequence[NDArray]) -> NDArray:
        """y, out of the buffers that a launch leaves."""
        return results[-3] if self.plan.counters else results[-1]

    def check(self, results: Sequence[NDArray]) -> list[NDArray]:
        """y; AssertionError where it is not the truth, or where a counter is not left zero."""
        assert not self.plan.counters or not results[-1].any(), "counters must be left zero"
        y = self.outputs(results)
        self.case.check(y)
        return [y]


def gemv_case(
    m: int,
    tensor: Int4Tensor,
    epilogue: int = 0,
    *,
    x: NDArray[np.float16] | None = None,
    is_dependent: bool = False,
    **tuning: int,
) -> LinearCase:
    """A case of `w4a16_gemv`."""
    case = case_of(m, tensor, epilogue, x=x, raised=RAISED)
    linear = _linear(case, is_dependent=is_dependent)
    return _of_x(geometry.gemv(linear, geometry.GemvTuning(**tuning)), case)


def gemm_case(
    m: int,
    tensor: Int4Tensor,
    epilogue: int = 0,
    *,
    x: NDArray[np.float16] | None = None,
    is_dependent: bool = False,
    **tuning: int,
) -> LinearCase:
    """A case of `w4a16_gemm`."""
    tokens = tuning.get("tokens") or geometry.gemm_tokens(m)
    case = case_of(m, tensor, epilogue, x=x, is_scale_rounded=tokens >= 64)
    linear = _linear(case, is_dependent=is_dependent)
    return _of_x(geometry.gemm(linear, geometry.GemmTuning(**tuning)), case)


def wgmma_case(m: int, tensor: Int4Tensor, epilogue: int = 0, **tuning: int) -> LinearCase:
    """A case of `w4a16_wgmma`."""
    case = case_of(m, tensor, epilogue, is_scale_rounded=True)
    return _of_x(
        large_geometry.w4a16_wgmma(_linear(case), large_geometry.WgmmaTuning(**tuning)), case
    )


def multicast_case(m: int, tensor: Int4Tensor, epilogue: int = 0, **tuning: int) -> LinearCase:
    """A case of `w4a16_multicast`."""
    case = case_of(m, tensor, epilogue, is_scale_rounded=True)
    return _of_x(multicast_geometry.w4a16_multicast(_linear(case), MulticastTuning(**tuning)), case)


def cluster_case(m: int, tensor: Int4Tensor, epilogue: int = 0, **tuning: int) -> LinearCase:
    """A case of `w4a16_cluster`."""
    case = case_of(m, tensor, epilogue, raised=RAISED)
    return _of_x(
        cluster_geometry.w4a16_cluster(_linear(case), cluster_geometry.ClusterTuning(**tuning)),
        case,
    )


def a8_case(
    m: int,
    tensor: Int4Tensor,
    epilogue: int = 0,
    *,
    x: NDArray[np.float16] | None = None,
    scales: A8Scales = A8Scales.GROUP,
    is_wgmma: bool = False,
    **tuning: int,
) -> LinearCase:
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
    return LinearCase(plan=plan, case=case, activations=(interleaved(quantized.v), scale), k=k)


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


def planned_x(plan: geometry.Launch, x: NDArray, argument: NDArray | Late) -> Argument:
    """The activations as a kernel is passed them: by a tensor map, where it copies tiles of x."""
    return Tiled(argument, x.shape, plan.box_rows) if plan.box_rows else argument


def scratch(plan: geometry.Launch) -> list[Argument]:
    """Workspace in any state and counters that are zero; None where the launch needs none.

    Empty for a kernel that takes neither.
    """
    if plan.kernel not in SPLIT_K:
        return []
    if not plan.counters:
        return [None, None]
    return [np.full(plan.workspace_bytes, 0xFF, np.uint8), np.zeros(plan.counters, np.uint32)]


def _of_x(plan: geometry.Launch, case: Case) -> LinearCase:
    return LinearCase(plan=plan, case=case, activations=(case.x,), k=case.x.shape[1])


def _linear(case: Case, k: int = 0, *, is_dependent: bool = False) -> Linear:
    return Linear(
        m=case.y.shape[0],
        n=case.weights.n,
        k=k or case.x.shape[1],
        group=case.weights.group,
        epilogue=case.epilogue,
        is_dependent=is_dependent,
    )


def _in_time(array: NDArray) -> NDArray:
    return array
