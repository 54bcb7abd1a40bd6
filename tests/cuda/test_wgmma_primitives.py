"""Products of warp groups and arrivals: against numpy, and what is undefined is reported."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda import cubin
from edgebench_kernels.cuda.compile import compile_file
from edgebench_kernels.cuda.errors import CompileError

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

TOYS = EMULATOR / "toys_wgmma.cu"
FENCE = "  wgmma_fence();\n  for (int step = 0; step < 4; ++step)\n    wgmma_f16"
ISSUE = "    wgmma_f16<64>(sums, fragments[step], matrix_descriptor(memory) + 2 * step, true);\n"
HEADER = "prim_wgmma.cuh"
REPORTED: dict[str, tuple[Patch, str]] = {
    "no fence": (
        ("toys_wgmma.cu", FENCE, FENCE.replace("  wgmma_fence();\n", "")),
        "product: no wgmma_fence before it",
    ),
    "a written behind the fence": (
        (
            "toys_wgmma.cu",
            ISSUE,
            ISSUE
            + "  if (lane_id() == 3) fragments[0][1] ^= 1;\n"
            + ISSUE.replace("[step]", "[0]").replace("step", "0"),
        ),
        "product: reads registers written since the last wgmma_fence",
    ),
    "d written behind the fence": (
        ("toys_wgmma.cu", ISSUE, "    {\n" + ISSUE + "    if (step == 1) sums[4] += 1;\n    }\n"),
        "product: reads registers written since the last wgmma_fence",
    ),
    "no fence of the copies": (
        ("toys_wgmma.cu", "  async_fence();\n", ""),
        "product: reads what was copied without async_fence",
    ),
    "another swizzle": ((HEADER, "(u64)1 << 62", "(u64)2 << 62"), "of another swizzle"),
    "rows at 512 bytes": (
        ("toys_wgmma.cu", ISSUE, ISSUE.replace("(memory)", "(memory + 512)")),
        "rows that do not begin at 1024 bytes",
    ),
    "rows outside": (
        ("toys_wgmma.cu", ISSUE, ISSUE.replace("(memory)", "(memory + 1024)")),
        "rows outside shared memory",
    ),
    "warps disagree": (
        ("toys_wgmma.cu", ISSUE, ISSUE.replace("2 * step", "2 * (step ^ warp_id() / 3)")),
        "warps of a group disagree",
    ),
    "lanes disagree": (
        ("toys_wgmma.cu", ISSUE, ISSUE.replace("2 * step", "2 * (step ^ lane_id() / 31)")),
        "lanes disagree",
    ),
}
WRONG: dict[str, Patch] = {
    "no wait": ("toys_wgmma.cu", "  wgmma_wait<0>();\n", ""),
    "a written too early": (
        "toys_wgmma.cu",
        ISSUE,
        ISSUE + "  wgmma_commit();\n  fragments[2][1] = 0;\n",
    ),
    "b written too early": (
        "toys_wgmma.cu",
        ISSUE,
        ISSUE + "  wgmma_commit();\n  memory[8 * thread_id()] = 0x3c;\n",
    ),
    "rows as they come": ("toys_wgmma.cu", "(unit ^ row % 8)", "unit"),
    "8 rows at 512 bytes": (HEADER, "(1024 / 16)", "(512 / 16)"),
    "a step of 16 bytes": ("toys_wgmma.cu", ISSUE, ISSUE.replace("2 * step", "step")),
}
NOT_INITIALISED = (
    "toys_wgmma.cu",
    "if (thread_id() < 4) arrivals_init",
    "if (thread_id() < 3) arrivals_init",
)
HANDOVER: dict[str, Patch] = {
    "slots used again at once": (
        "toys_wgmma.cu",
        "      wait_arrivals(empty + slot, parity ^ 1);\n",
        "",
    ),
    "not waited for": ("toys_wgmma.cu", "      wait_arrivals(full + slot, parity);\n", ""),
    "another phase": (
        "toys_wgmma.cu",
        "wait_arrivals(full + slot, parity)",
        "wait_arrivals(full + slot, parity ^ 1)",
    ),
    "one arrival is enough": (
        "toys_wgmma.cu",
        "arrivals_init(full + thread_id(), 32)",
        "arrivals_init(full + thread_id(), 1)",
    ),
}


def toy(name: str, *patches: Patch) -> Variant:
    return Variant(file=str(TOYS), kernel=name, patches=patches)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    variants = [toy(name) for name in ("toy_wgmma_f16", "toy_wgmma_s8", "toy_arrivals")]
    variants += [toy("toy_wgmma_f16", patch) for patch, _ in REPORTED.values()]
    variants += [toy("toy_wgmma_f16", patch) for patch in WRONG.values()]
    variants += [toy("toy_arrivals", patch) for patch in HANDOVER.values()]
    variants.append(toy("toy_arrivals", NOT_INITIALISED))
    return Emulation(tmp_path_factory.mktemp("toys"), variants)


def launch(variant: Variant, *arguments: Argument, schedule: Schedule) -> Launch:
    is_handover = variant.kernel == "toy_arrivals"
    return Launch(
        variant=variant,
        grid=(1, 1, 1),
        threads=64 if is_handover else 128,
        shared_bytes=288 if is_handover else 64 * 128,
        arguments=arguments,
        schedule=schedule,
    )


def halfs(seed: int) -> NDArray[np.float16]:
    return np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float16)


def is_right(toys: Emulation, schedule: Schedule, *patches: Patch) -> bool:
    """Whether the product of halfs is numpy's."""
    a, b = halfs(1), halfs(2)
    d = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)
    variant = toy("toy_wgmma_f16", *patches)
    [[_, _, made]] = toys.run([launch(variant, a, b, d, schedule=schedule)])
    return np.allclose(made, a.astype(np.float64) @ b.T.astype(np.float64) + d, atol=1e-4)


def is_handed_over(toys: Emulation, schedule: Schedule, *patches: Patch) -> bool:
    x = np.random.default_rng(4).integers(1, 2**32, (9, 32), dtype=np.uint32)
    variant = toy("toy_arrivals", *patches)
    arguments = (x, np.zeros_like(x), np.int32(9))
    try:
        [[_, y]] = toys.run([launch(variant, *arguments, schedule=schedule)])
    except EmulationError as err:
        if "deadlock" not in str(err):
            raise
        return False
    return np.array_equal(x, y)


@pytest.mark.native
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_they_do_what_numpy_does(toys: Emulation, schedule: Schedule) -> None:
    assert is_right(toys, schedule)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (64, 128)).astype(np.int8) for _ in range(2))
    d = np.full((64, 64), -1, np.int32)
    [[_, _, made]] = toys.run([launch(toy("toy_wgmma_s8"), a, b, d, schedule=schedule)])
    assert np.array_equal(made, a.astype(np.int32) @ b.T.astype(np.int32))
    assert is_handed_over(toys, schedule)


@pytest.mark.native
@pytest.mark.parametrize("bug", REPORTED)
def test_what_is_undefined_is_reported(toys: Emulation, bug: str) -> None:
    patch, message = REPORTED[bug]
    for schedule in SCHEDULES:
        with pytest.raises(EmulationError, match=rf"{message} at toys_wgmma.cu:\d+"):
            is_right(toys, schedule, patch)


@pytest.mark.native
def test_arrivals_must_be_initialised(toys: Emulation) -> None:
    with pytest.raises(EmulationError, match=r"nobody has initialised at toys_wgmma.cu:\d+"):
        is_handed_over(toys, SCHEDULES[0], NOT_INITIALISED)


@pytest.mark.native
@pytest.mark.parametrize("bug", WRONG)
def test_what_is_wrong_gives_wrong_numbers_in_some_schedule(toys: Emulation, bug: str) -> None:
    assert not all(is_right(toys, schedule, WRONG[bug]) for schedule in SCHEDULES)


@pytest.mark.native
@pytest.mark.parametrize("bug", HANDOVER)
def test_a_wrong_handover_shows_in_some_schedule(toys: Emulation, bug: str) -> None:
    assert not all(is_handed_over(toys, schedule, HANDOVER[bug]) for schedule in SCHEDULES)


@pytest.mark.nvrtc
def test_all_of_them_compile_for_hopper_and_for_nothing_else() -> None:
    code = cubin.kernel_code(compile_file(TOYS, "sm_90a").code)
    assert cubin.count_operations(code["toy_wgmma_f16"])["HGMMA"] == 4
    assert cubin.count_operations(code["toy_wgmma_s8"])["IGMMA"] == 4
    with pytest.raises(CompileError, match="sm_80"):
        compile_file(TOYS, "sm_80")
