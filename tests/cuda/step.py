"""Kernels between the linears as emulated launches, and what their rows of activations must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry
from edgebench_kernels.cuda.step_geometry import Codes

from .cases import HALF_TINY, HALF_ULP
from .emulation import SCHEDULES, Argument, Emulation, Late, Launch, Patch, Schedule, launch_of

FLOAT_ULP = 2.0**-24  # of fp32, relative
FAST = 2.0**-22  # of the fast functions, relative

LATE = {
    "embed": (0,),
    "rms_norm": (0, 1),
    "swiglu": (0,),
    "quantize": (0,),
    "rope_append": (0,),
    "decode_attention": (0,),
    "argmax": (0,),
    "advance": (0, 4),
}
"""Arguments that the kernel before may still write when this one begins."""


def step_launch(
    plan: geometry.Launch,
    arguments: Sequence[Argument],
    schedule: Schedule,
    patches: tuple[Patch, ...] = (),
) -> Launch:
    """One emulated launch, begun before the kernel before has ended."""
    late = LATE[plan.kernel]
    if dict(plan.macros).get("EB_FUSED") == 0:
        late = (0, 1, 2)  # rope_append has just written the cache
    given = [
        Late(argument) if place in late and isinstance(argument, np.ndarray) else argument
        for place, argument in enumerate(arguments)
    ]
    return launch_of(plan, given, schedule, patches)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCase:
    """A launch, and what raises AssertionError where its buffers came out wrong."""

    plan: geometry.Launch
    arguments: Callable[[], list[Argument]]
    truth: Callable[[list[NDArray]], None]

    def launch(self, schedule: Schedule, patches: tuple[Patch, ...] = ()) -> Launch:
        """The launch, in that order of events, with bugs planted."""
        return step_launch(self.plan, self.arguments(), schedule, patches)

    def check(self, results: list[NDArray]) -> list[NDArray]:
        """All buffers; AssertionError where they came out wrong."""
        self.truth(results)
        return results


def run_everywhere(
    program: Emulation, plan: geometry.Launch, arguments: Sequence[Argument]
) -> list[NDArray]:
    """The buffers after a launch, the same bits in all schedules."""
    launches = [step_launch(plan, arguments, schedule) for schedule in SCHEDULES]
    first, *others = program.run(launches)
    for arrays in others:
        for one, other in zip(first, arrays, strict=True):
            assert one.tobytes() == other.tobytes(), "the order of events must not change a bit"
    return first


def nan_like(shape: tuple[int, ...], dtype: type) -> NDArray:
    """An output that shows what was left out: NaN, or the largest integer."""
    fill = np.nan if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    return np.full(shape, fill, dtype=dtype)


def check(y: NDArray, expected: NDArray[np.float64], bound: NDArray[np.float64]) -> None:
    """Raise AssertionError where y is further from the truth than rounding explains."""
    error = np.abs(y.astype(np.float64) - expected)
    wrong = ~(error <= bound)
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size}, first at {np.argwhere(wrong)[0].tolist()}: "
        f"{y[wrong][0]} for {expected[wrong][0]}, allowed {bound[wrong][0]:.3g}"
    )


def half_bound(y: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bound `before` rounding to fp16, and that rounding."""
    return before + HALF_ULP * (np.abs(y) + before) + HALF_TINY / 2


# ------------------------------------------------------------------------------------------- rows


def rms_norm(
    x: NDArray, weight: NDArray[np.float32], eps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RMSNorm of rows in float64, and how far fp32 may be from it.

    A sum of n squares, all positive, in chains of at most n / 32 + 64 additions: its relative error
    is halved by the root. Then a division, an addition, rsqrt, two products.
    """
    rows = x.astype(np.float64)
    y = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + eps) * weight
    relative = (x.shape[-1] / 32 + 64) / 2 * FLOAT_ULP + 4 * FLOAT_ULP + FAST
    return y, relative * np.abs(y)


def swiglu(gate_up: NDArray[np.float16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """silu(gate) up in float64, and how far fp32 with fast functions may be from it.

    The argument of exp2 is off by one rounding of up to 128 (of 11 at |gate| < 8), so exp by a
    relative 2^-24 (2 + |gate|); where exp overflows or underflows, silu is 0 or the gate.
    """
    gate, up = np.split(gate_up.astype(np.float64), 2, axis=-1)
    with np.errstate(over="ignore"):
        silu = gate / (1 + np.exp(-gate))
    y = silu * up
    relative = (4 + 2 * np.abs(gate)) * FLOAT_ULP + 2 * FAST
    # below 2^-126 the fast reciprocal and its argument are zero
    return y, relative * np.abs(y) + 2.0**-120 * np.abs(up)


# ------------------------------------------------------------------------------------------- codes


def code_arrays(m: int, n: int, codes: Codes) -> tuple[NDArray, NDArray, NDArray]:
    """Codes, scales and sums, not yet written."""
    groups = -(-n // codes.group)
    scales = nan_like((1 if codes.is_token_scale else groups, m), np.float32)
    return nan_like((m, n), np.int8), scales, nan_like((groups, m), np.int32)


def check_codes(
    y: NDArray[np.float64],
    bound: NDArray[np.float64],
    codes: Codes,
    arrays: tuple[NDArray, NDArray, NDArray],
) -> None:
    """int8 outputs against y: the scale from the peak, each code the nearest, sums their sums.

    Byte i of each 16 codes is input 0 8 1 9 .. 7 15.

    |y - scale code| <= scale / 2, and y itself is known to `bound`; dividing the peak and scaling
    by its inverse round a code's place by three parts in 2^24 of 127.
    """
    given, scale, sums = arrays
    given = given.reshape(len(given), -1, 8, 2).transpose(0, 1, 3, 2).reshape(given.shape)
    width = y.shape[1] if codes.is_token_scale else codes.group
    for group, start in enumerate(range(0, y.shape[1], width)):
        part, allowed = y[:, start : start + width], bound[:, start : start + width]
        at = np.abs(part).argmax(-1)[:, None]
        peak = np.maximum(np.take_along_axis(np.abs(part), at, 1), 1e-30)
        doubt = allowed.max(-1, keepdims=True) + 4 * FLOAT_ULP * peak
        assert (np.abs(127 * scale[group][:, None].astype(np.float64) - peak) <= doubt).all()
        steps = given[:, start : start + width].astype(np.float64)
        check(steps * scale[group][:, None], part, allowed + 0.5 * peak / 127 + 2 * doubt)
        assert (np.abs(steps).max(-1) == np.where(peak[:, 0] > 1e-30, 127, 0)).all()
    for group, start in enumerate(range(0, y.shape[1], codes.group)):
        expected = given[:, start : start + codes.group].astype(np.int32).sum(-1)
        assert np.array_equal(sums[group], expected)
