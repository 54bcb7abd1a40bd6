"""The w4a16 linears as emulated launches: a case's arrays in the kernels' order of arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry
from edgebench_kernels.formats import Int4Tensor

from .cases import Case, case_of
from .emulation import SCHEDULES, Emulation, Late, Launch, Patch, SameAs, Schedule, Variant

Y = 4  # the argument that is written
RAISED = 256  # how much larger the GEMV's codes are while it sums


def variant_of(plan: geometry.Launch, patches: tuple[Patch, ...] = ()) -> Variant:
    """What a launch needs compiled."""
    return Variant(file=plan.file, kernel=plan.kernel, macros=plan.macros, patches=patches)


def launch_of(
    plan: geometry.Launch,
    case: Case,
    schedule: Schedule,
    *,
    patches: tuple[Patch, ...] = (),
    is_in_place: bool = False,
) -> Launch:
    """The launch of a linear; in place, y is the residual's buffer."""
    m, k = case.x.shape
    y = SameAs(Y - 1) if is_in_place else case.output()
    x, residual = case.x, case.residual
    if ("EB_DEPENDENT", 1) in plan.macros:
        x, residual = Late(x), None if residual is None else Late(residual)
    arguments = [x, case.weights.data, case.bias, residual, y]
    arguments += [np.int32(m), np.int32(case.weights.n), np.int32(k)]
    if plan.kernel == "w4a16_gemm":
        workspace = np.full(plan.workspace_bytes, 0xFF, np.uint8)
        counters = np.zeros(plan.counters, np.uint32)
        arguments += [workspace, counters] if plan.counters else [None, None]
    return Launch(
        variant=variant_of(plan, patches),
        grid=plan.grid,
        threads=plan.threads,
        shared_bytes=plan.shared_bytes,
        arguments=arguments,
        schedule=schedule,
    )


def outputs(program: Emulation, launches: Sequence[Launch]) -> list[tuple[NDArray, NDArray | None]]:
    """Of each launch y, and where K is split the counters as they stand afterwards."""
    answers = []
    for launch, arrays in zip(launches, program.run(launches), strict=True):
        is_split = len(launch.arguments) > 8 and launch.arguments[9] is not None
        answers.append((arrays[-3] if is_split else arrays[-1], arrays[-1] if is_split else None))
    return answers


def gemv_case(
    m: int, tensor: Int4Tensor, epilogue: int = 0, *, is_dependent: bool = False, **tuning: int
) -> tuple[geometry.Launch, Case]:
    """A case and how `w4a16_gemv` is launched for it."""
    case = case_of(m, tensor, epilogue, raised=RAISED)
    linear = _linear_of(case, is_dependent)
    return geometry.gemv(linear, geometry.GemvTuning(**tuning)), case


def gemm_case(
    m: int, tensor: Int4Tensor, epilogue: int = 0, *, is_dependent: bool = False, **tuning: int
) -> tuple[geometry.Launch, Case]:
    """A case and how `w4a16_gemm` is launched for it."""
    tokens = tuning.get("tokens") or geometry.gemm_tokens(m)
    case = case_of(m, tensor, epilogue, is_scale_rounded=tokens >= 64)
    linear = _linear_of(case, is_dependent)
    return geometry.gemm(linear, geometry.GemmTuning(**tuning)), case


def check_in_all_schedules(
    program: Emulation, plan: geometry.Launch, case: Case, patches: tuple[Patch, ...] = ()
) -> None:
    """Raise EmulationError or AssertionError unless all schedules give the truth, and its bits."""
    launches = [launch_of(plan, case, schedule, patches=patches) for schedule in SCHEDULES]
    answers = outputs(program, launches)
    for y, counters in answers:
        case.check(y)
        assert counters is None or not counters.any(), "counters must be left zero"
        assert np.array_equal(y, answers[0][0]), "the order of events must not change a bit"


def _linear_of(case: Case, is_dependent: bool) -> geometry.Linear:
    return geometry.Linear(
        m=case.x.shape[0],
        n=case.weights.n,
        k=case.x.shape[1],
        group=case.weights.group,
        epilogue=case.epilogue,
        is_dependent=is_dependent,
    )
