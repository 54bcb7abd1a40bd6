"""w4a8 on integer tensor cores, emulated in every schedule against exact integers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda import step_geometry
from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU
from edgebench_kernels.cuda.large_geometry import A8Scales
from edgebench_kernels.formats import Int4Tensor, pack_codes

from .cases import random_tensor
from .emulation import SCHEDULES, Emulation, launch_of
from .linears import LinearCase, a8_case
from .planted import (
    OUTSIDE_OR_FREED,
    Bug,
    check_caught,
    check_in_all_schedules,
    check_well,
    program_of,
)

pytestmark = [pytest.mark.native, pytest.mark.slow]

SMALL = {"tokens": 16, "warps": 2, "tiles": 1, "stages": 2}
# Rings go round where chunks > stages; 192 and 320 inputs end in half a chunk.
CASES = {
    "one token": a8_case(1, random_tensor(1, 64, 64, 0), FLOAT_OUT, **SMALL),
    "group 32": a8_case(17, random_tensor(17, 128, 32, 1), **SMALL),
    "half a chunk of group 32": a8_case(5, random_tensor(40, 320, 32, 2), FLOAT_OUT, **SMALL),
    "group 64, fp32 out": a8_case(16, random_tensor(33, 192, 64, 3), FLOAT_OUT, **SMALL),
    "group K, of whole 64": a8_case(9, random_tensor(17, 320, 320, 4), FLOAT_OUT, **SMALL),
    "group 128": a8_case(33, random_tensor(64, 512, 128, 5), RESIDUAL, tokens=32, warps=2),
    "group K": a8_case(20, random_tensor(40, 640, 640, 6), RESIDUAL, tokens=32, warps=2),
    "split K": a8_case(18, random_tensor(40, 896, 128, 7), RESIDUAL, tokens=32, warps=2, splits=3),
    "tokens' scales": a8_case(33, random_tensor(33, 320, 64, 8), scales=A8Scales.TOKEN, **SMALL),
    "swiglu": a8_case(40, random_tensor(48, 256, 128, 9), SWIGLU | BIAS, tokens=64, warps=2),
    "two warps along tokens": a8_case(
        130, random_tensor(40, 256, 64, 10), tokens=128, token_warps=2, warps=4, stages=2
    ),
}

RING = a8_case(13, random_tensor(17, 1088, 64, 11), **{**SMALL, "stages": 3})
TOKEN = CASES["tokens' scales"]
FILE, READER, BYTES = "w4a8_gemm.cu", "a8_reader.cuh", "w4_bytes.cuh"
LOOP = "    copy_wait<S::kStages - 2>();\n    barrier();\n"
FOLD = "multiply_add(exact, scale[i / 2], sums[i])"
BUGS = {
    "codes before they are there": Bug(
        of=RING, patch=(FILE, "  grid_dependency_wait();\n", ""), in_all=True
    ),
    "one wait too few": Bug(
        of=RING, patch=(FILE, "copy_wait<S::kStages - 2>", "copy_wait<S::kStages - 1>")
    ),
    "no commit": Bug(of=RING, patch=(READER, "    copy_commit();\n", "")),
    "no barrier": Bug(of=RING, patch=(FILE, LOOP, LOOP.replace("    barrier();\n", ""))),
    "into the slot that is read": Bug(
        of=RING, patch=(FILE, "(slot == 0 ? S::kStages - 1 : slot - 1)", "slot")
    ),
    "words swapped": Bug(
        of=RING,
        patch=(BYTES, "(u32)words, (u32)(words >> 32)", "(u32)(words >> 32), (u32)words"),
        in_all=True,
    ),
    "a[1] and a[2] swapped": Bug(
        of=RING, patch=(BYTES, "  a[2] = ((second", "  a[2] = a[1], a[1] = ((second"), in_all=True
    ),
    "bytes borrow": Bug(
        of=RING,
        patch=(
            BYTES,
            "  a[0] = ((first & 0x0f0f0f0f) + zeros.low) ^ 0x80808080;",
            "  a[0] = (first & 0x0f0f0f0f) - (0x80808080 - zeros.low);",
        ),
        in_all=True,
    ),
    "zero points of the other row": Bug(
        of=RING,
        patch=(BYTES, "permute_bytes(pair, 0, 0x0000)", "permute_bytes(pair, 0, 0x1111)"),
        in_all=True,
    ),
    "scale applied twice": Bug(
        of=RING, patch=(FILE, FOLD, FOLD.replace("exact,", "exact * scale[i / 2],")), in_all=True
    ),
    "scale of the other row": Bug(
        of=RING, patch=(FILE, FOLD, FOLD.replace("i / 2", "1 - i / 2")), in_all=True
    ),
    "scale of the other token": Bug(
        of=RING,
        patch=(FILE, "sx[i % 2], shift[i % 2]", "sx[1 - i % 2], shift[1 - i % 2]"),
        in_all=True,
    ),
    "scale of the next group": Bug(
        of=RING,
        patch=(FILE, "group * S::kTokens + first", "(group ^ 1) * S::kTokens + first"),
        in_all=True,
    ),
    "scale with all its bits": Bug(
        of=RING, patch=(FILE, "kScaleMask = 0xfffffffc", "kScaleMask = 0xffffffff"), in_all=True
    ),
    "integers below 2^23": Bug(
        of=RING, patch=(FILE, "kMagicBits = 0x4b400000", "kMagicBits = 0x4b000000"), in_all=True
    ),
    "sums start again": Bug(
        of=RING,
        patch=(FILE, "mma_s8(part, a[tile][step]", "mma_s8_from(kMagicBits, part, a[tile][step]"),
        in_all=True,
    ),
    "another swizzle": Bug(of=RING, patch=(READER, "(unit ^ row % 8)", "unit"), in_all=True),
    "tokens that are not there": Bug(
        of=RING,
        patch=(READER, "i < count - (int)row", "count > 0"),
        seen=OUTSIDE_OR_FREED,
        in_all=True,
    ),
    "inputs past the row": Bug(
        of=RING, patch=(READER, "16 * (int)unit < inputs_left", "true"), seen=OUTSIDE_OR_FREED
    ),
    "scales of groups that are not there": Bug(
        of=RING,
        patch=(READER, "S::kTokenScale || (int)(group", "true || (int)(group"),
        seen=OUTSIDE_OR_FREED,
    ),
    "scales of tokens that are not there": Bug(
        of=RING, patch=(READER, " && (int)token < count)", " && count > 0)"), seen=OUTSIDE_OR_FREED
    ),
    "tokens' scales by group": Bug(
        of=TOKEN, patch=(READER, "S::kTokenScale ? 0 : (chunk", "(chunk"), seen=OUTSIDE_OR_FREED
    ),
}


QUANTIZERS = {
    name: step_geometry.quantize(
        *CASES[name].case.x.shape,
        step_geometry.Codes(group=CASES[name].case.weights.group, is_token_scale=is_token_scale),
    )
    for name, is_token_scale in (("half a chunk of group 32", False), ("tokens' scales", True))
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [*(case.plan for case in CASES.values()), *QUANTIZERS.values()]
    return program_of(tmp_path_factory.mktemp("w4a8"), plans, BUGS.values())


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_truth_in_every_schedule(program: Emulation, name: str) -> None:
    check_in_all_schedules(program, CASES[name])


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(program: Emulation, name: str) -> None:
    check_caught(program, BUGS[name])


def test_without_a_bug_all_is_well(program: Emulation) -> None:
    check_well(program, BUGS.values())


# --------------------------------------------------------------------------------- exact integers


def integer_case(
    code: NDArray[np.uint8], zero: int, x: NDArray[np.float16], group: int
) -> LinearCase:
    """Scales of 1, and activations that are their own codes: the outputs are integers."""
    n, k = code.shape
    tensor = Int4Tensor(
        qweight=pack_codes(code),
        scale=np.ones((n, k // group), np.float16),
        zero=np.full((n, k // group), zero, np.uint8),
        group=group,
    )
    return a8_case(len(x), tensor, FLOAT_OUT, x=x, **SMALL)


@pytest.mark.parametrize("zero", [0, 8, 15])
@pytest.mark.parametrize(("group", "k"), [(32, 320), (64, 192), (64, 1088)])
def test_integers_are_exact(program: Emulation, zero: int, group: int, k: int) -> None:
    """Codes of +-127 in every group make sx 1, and all sums stay under 2^24."""
    rng = np.random.default_rng(zero)
    code = rng.integers(0, 16, (17, k)).astype(np.uint8)
    x = rng.integers(-127, 128, (13, k))
    x[:, ::32] = 127
    [y] = check_in_all_schedules(program, integer_case(code, zero, x.astype(np.float16), group))
    assert np.array_equal(y, x @ (code.astype(np.int64) - zero).T)


@pytest.mark.parametrize(
    ("code", "zero", "sign"), [(15, 0, 1), (0, 15, 1), (15, 0, -1), (0, 15, -1)]
)
def test_the_largest_integers(program: Emulation, code: int, zero: int, sign: int) -> None:
    x = np.full((2, 192), 127 * sign, np.float16)
    [y] = check_in_all_schedules(
        program, integer_case(np.full((17, 192), code, np.uint8), zero, x, 64)
    )
    assert (y == 192 * (code - zero) * 127 * sign).all()


def test_nan_stays_in_its_token_and_zeros_give_zero(program: Emulation) -> None:
    tensor = random_tensor(33, 192, 64, 3)
    x = np.random.default_rng(12).standard_normal((16, 192)).astype(np.float16)
    x[3] = 0
    case = a8_case(16, tensor, FLOAT_OUT, x=x, **SMALL)
    scale = case.activations[1]
    scale[1, 5] = np.nan
    for schedule in SCHEDULES:
        y = case.outputs(program.run([case.launch(schedule)])[0])
        assert np.isnan(y[5]).all()
        assert (y[3] == 0).all()
        assert np.isfinite(np.delete(y, 5, axis=0)).all()


@pytest.mark.parametrize("name", ["half a chunk of group 32", "tokens' scales"])
def test_the_quantizer_writes_what_the_kernel_reads(program: Emulation, name: str) -> None:
    """Code for code and scale for scale, as the reference quantizes."""
    case = CASES[name]
    x = case.case.x
    m, k = x.shape
    outputs = [np.full_like(array, -1) for array in case.activations]
    sums = np.zeros((k // case.case.weights.group, m), np.int32)
    plan = QUANTIZERS[name]
    given = [x, *outputs, sums, np.int32(m), np.int32(k)]
    launches = [launch_of(plan, given, schedule) for schedule in SCHEDULES]
    for _, codes, scale, _ in program.run(launches):
        assert np.array_equal(codes, case.activations[0])
        assert np.array_equal(scale, case.activations[1])


def test_the_order_of_inputs_matters(program: Emulation) -> None:
    """Codes as they come would give something else: the twin's order is a contract."""
    case = CASES["group 64, fp32 out"]
    codes = case.activations[0]
    plain = codes.reshape(len(codes), -1, 8, 2).transpose(0, 1, 3, 2).reshape(codes.shape)
    other = case.with_activations(np.ascontiguousarray(plain), case.activations[1])
    y = other.outputs(program.run([other.launch()])[0])
    assert case.case.is_wrong(y).mean() > 0.9
