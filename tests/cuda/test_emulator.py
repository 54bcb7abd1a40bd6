"""The emulator itself: each primitive against numpy, each kind of undefined behaviour reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from .emulation import (
    EMULATOR,
    SCHEDULES,
    Argument,
    Emulation,
    EmulationError,
    Launch,
    Patch,
    Schedule,
    Variant,
)

pytestmark = pytest.mark.native

NAMES = ("toy_reverse", "toy_mma_f16", "toy_mma_s8", "toy_transpose", "toy_movmatrix", "toy_sum")
NO_FENCE = ("toys.cu", "    memory_fence();\n", "")
WAIT_AND_BARRIER = "  copy_wait<0>();\n  barrier();\n"
BUGS: dict[str, Patch] = {
    "no barrier": ("toys.cu", "  barrier();\n", ""),
    "no wait": ("toys.cu", WAIT_AND_BARRIER, "  barrier();\n"),
    "deadlock": ("toys.cu", "  barrier();\n", "  if (thread_id() != 5) barrier();\n"),
    "two barriers": (
        "toys.cu",
        "  barrier();\n",
        "  if (thread_id() == 5) {\n  barrier();\n  } else {\n  barrier();\n  }\n",
    ),
    "read outside shared": ("toys.cu", "[count - 1 - thread_id()]", "[count - thread_id()]"),
    "write outside": ("toys.cu", "y[first + thread_id()]", "y[first + 1 + thread_id()]"),
    "read outside": ("toys.cu", "x + first + 4 * thread_id()", "x + first + 4 + 4 * thread_id()"),
    "misaligned": ("toys.cu", "x + first + 4 * thread_id()", "x + first + 3 * thread_id()"),
    "global for shared": ("toys.cu", "(u32*)memory + 4 * thread_id(),", "y + 4 * thread_id(),"),
    "shared for global": ("toys.cu", " x + first + 4 *", " (x ? (u32*)memory : x) + 4 *"),
}


def toy(name: str, *patches: Patch) -> Variant:
    return Variant(file=str(EMULATOR / "toys.cu"), kernel=name, patches=patches)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    variants = [toy(name) for name in NAMES]
    variants += [toy("toy_reverse", bug) for bug in BUGS.values()]
    variants.append(toy("toy_sum", NO_FENCE))
    return Emulation(tmp_path_factory.mktemp("toys"), variants)


def launch(variant: Variant, *arguments: Argument, schedule: Schedule, blocks: int = 1) -> Launch:
    return Launch(
        variant=variant,
        grid=(blocks, 1, 1),
        threads=64 if variant.kernel == "toy_reverse" else 32,
        shared_bytes=256 if variant.kernel == "toy_reverse" else 1024,
        arguments=arguments,
        schedule=schedule,
    )


X = np.random.default_rng(1).standard_normal(8 * 32).astype(np.float32)
SUM = float(X.astype(np.float64).sum())


def sum_launch(schedule: Schedule, *patches: Patch) -> Launch:
    parts, count = np.full((8, 4), np.nan, np.float32), np.zeros(1, np.uint32)
    total = np.zeros(1, np.float32)
    return launch(toy("toy_sum", *patches), X, parts, count, total, schedule=schedule, blocks=8)


def reverse(toys: Emulation, schedule: Schedule, *patches: Patch) -> tuple[NDArray, NDArray]:
    x = np.arange(192, dtype=np.uint32)
    variant = toy("toy_reverse", *patches)
    [[_, y]] = toys.run([launch(variant, x, np.zeros_like(x), schedule=schedule, blocks=3)])
    return y, x.reshape(3, 64)[:, ::-1].reshape(-1)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_every_primitive_does_what_numpy_does(toys: Emulation, schedule: Schedule) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, 16)).astype(np.float16) for n in (16, 8))
    c = rng.standard_normal((16, 8)).astype(np.float32)
    left, right = (rng.integers(-128, 128, (n, 32)).astype(np.int8) for n in (16, 8))
    results = toys.run(
        [
            launch(toy("toy_mma_f16"), a, b, c, np.zeros_like(c), schedule=schedule),
            launch(toy("toy_mma_s8"), left, right, np.zeros((16, 8), np.int32), schedule=schedule),
            launch(toy("toy_transpose"), a, np.zeros_like(a), schedule=schedule),
            launch(
                toy("toy_movmatrix"),
                a[:8, :8].copy(),
                np.zeros((8, 8), np.float16),
                schedule=schedule,
            ),
            sum_launch(schedule),
        ]
    )
    product = a.astype(np.float64) @ b.T.astype(np.float64) + c
    assert np.allclose(results[0][-1], product, rtol=1e-6, atol=1e-6)
    assert np.array_equal(results[1][-1], left.astype(np.int32) @ right.T.astype(np.int32))
    assert np.array_equal(results[2][-1], a.T)
    assert np.array_equal(results[3][-1], a[:8, :8].T)
    assert results[4][-1][0] == pytest.approx(SUM, abs=1e-4)
    y, expected = reverse(toys, schedule)
    assert np.array_equal(y, expected)


@pytest.mark.parametrize(
    ("bug", "message"),
    [
        ("deadlock", r"\[emulator\] deadlock: .* at the barrier toys.cu:\d+"),
        ("two barriers", r"\[emulator\] divergence: one barrier from toys.cu:\d+"),
        ("read outside shared", r"heap-buffer-overflow[\s\S]*READ of size 4"),
        ("write outside", r"heap-buffer-overflow[\s\S]*WRITE of size 4"),
        ("read outside", r"heap-buffer-overflow[\s\S]*READ of size 16"),
        ("misaligned", r"\[emulator\] misaligned: .* multiple of 16 at toys.cu:\d+"),
        ("global for shared", r"\[emulator\] wrong space: .* outside of shared .* toys.cu:\d+"),
        ("shared for global", r"\[emulator\] wrong space: .* takes a global one"),
    ],
)
def test_what_is_undefined_is_reported(toys: Emulation, bug: str, message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        reverse(toys, SCHEDULES[0], BUGS[bug])


@pytest.mark.parametrize("bug", ["no barrier", "no wait"])
def test_a_race_gives_wrong_numbers_in_some_schedule(toys: Emulation, bug: str) -> None:
    wrong = 0
    for schedule in SCHEDULES:
        y, expected = reverse(toys, schedule, BUGS[bug])
        wrong += not np.array_equal(y, expected)
    assert wrong


def test_what_is_published_without_a_fence_comes_late(toys: Emulation) -> None:
    results = toys.run([sum_launch(schedule, NO_FENCE) for schedule in SCHEDULES])
    is_right = [result[-1][0] == pytest.approx(SUM, abs=1e-4) for result in results]
    assert is_right == [schedule.is_early for schedule in SCHEDULES]


def test_a_patch_must_hit(tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match="must hold 'no such text' once, found 0 times"):
        Emulation(tmp_path, [toy("toy_sum", ("toys.cu", "no such text", ""))])
