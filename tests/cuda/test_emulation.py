"""Every w4a16 kernel, emulated in every schedule, against float64 on awkward shapes."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels.cuda import geometry
from edgebench_kernels.cuda.geometry import BIAS, FLOAT_OUT, RESIDUAL, SWIGLU
from edgebench_kernels.cuda.layout import pack
from edgebench_kernels.formats import Int4Tensor, dequantize, pack_codes

from .cases import random_tensor
from .emulation import SCHEDULES, Emulation, launch_of
from .linears import LinearCase, gemm_case, gemv_case
from .planted import check_in_all_schedules, program_of

pytestmark = [pytest.mark.native, pytest.mark.slow]

# A ring goes round where chunks > warps * stages; 192 and 320 inputs end in half a chunk.
GEMV = {
    "one row": gemv_case(1, random_tensor(1, 64, 64, 0)),
    "group 32": gemv_case(1, random_tensor(17, 128, 32, 1)),
    "group K, fp32 out": gemv_case(1, random_tensor(64, 512, 512, 2), FLOAT_OUT),
    "half a chunk, bias": gemv_case(2, random_tensor(17, 192, 64, 3), BIAS),
    "ring goes round": gemv_case(2, random_tensor(33, 1088, 64, 4), warps=2, stages=3),
    "rows after rows": gemv_case(
        3, random_tensor(100, 320, 64, 35), BIAS, tiles=2, warps=2, stages=3, blocks=2
    ),
    "more warps than chunks": gemv_case(
        5, random_tensor(80, 128, 128, 36), RESIDUAL, tiles=3, blocks=1
    ),
    "16 tokens": gemv_case(
        16, random_tensor(70, 704, 64, 37), BIAS | RESIDUAL, tiles=2, warps=2, row_warps=2, blocks=2
    ),
    "nine of 16 tokens": gemv_case(
        9, random_tensor(64, 320, 32, 38), SWIGLU, warps=4, row_warps=2, blocks=1, is_dependent=True
    ),
    "three of four tokens": gemv_case(3, random_tensor(64, 256, 128, 5), RESIDUAL),
    "padded K": gemv_case(8, random_tensor(33, 96, 96, 6)),
    "padded K, 16 tokens": gemv_case(11, random_tensor(33, 96, 96, 39)),
    "K of no whole 8": gemv_case(1, random_tensor(5, 20, 20, 7)),
    "swiglu": gemv_case(7, random_tensor(40, 320, 64, 8), SWIGLU),
    "swiglu, bias": gemv_case(1, random_tensor(32, 128, 128, 9), SWIGLU | BIAS),
    "dependent": gemv_case(1, random_tensor(17, 640, 128, 10), warps=2, is_dependent=True),
}
GEMM = {
    "group 32": gemm_case(9, random_tensor(17, 64, 32, 20), warps=2),
    "split K": gemm_case(16, random_tensor(64, 512, 128, 21), RESIDUAL, warps=2, splits=2),
    "five parts of K": gemm_case(
        10, random_tensor(17, 640, 128, 33), warps=2, splits=5, is_dependent=True
    ),
    "33 tokens": gemm_case(33, random_tensor(40, 320, 64, 22), BIAS, tokens=32),
    "scaled weights": gemm_case(33, random_tensor(64, 256, 256, 23), warps=2),
    "ring goes round": gemm_case(12, random_tensor(40, 704, 64, 24), warps=2, stages=2),
    "padded K, fp32 out": gemm_case(13, random_tensor(33, 96, 96, 25), FLOAT_OUT, warps=2, tiles=1),
    "swiglu, two rows of blocks": gemm_case(
        20, random_tensor(48, 384, 128, 26), SWIGLU, tokens=16, warps=2, splits=2
    ),
    "scaled weights of group 32": gemm_case(
        66, random_tensor(16, 128, 32, 27), BIAS | RESIDUAL, tokens=64, tiles=1, warps=2
    ),
    "64 rows of a warp": gemm_case(
        35, random_tensor(70, 192, 64, 34), tokens=64, tiles=4, warps=2, splits=2
    ),
    "128 tokens": gemm_case(130, random_tensor(17, 128, 128, 28), warps=2, tiles=1),
    "dependent": gemm_case(9, random_tensor(33, 640, 128, 29), warps=2, is_dependent=True),
}
SHAPES = [  # N, K, G, pair
    (1, 32, 32, 0),
    (17, 64, 64, 0),
    (40, 320, 64, 20),
    (33, 96, 96, 0),
    (64, 512, 512, 16),
    (5, 20, 20, 0),
]


def tile_plans(n: int, k: int, group: int) -> tuple[geometry.Launch, geometry.Launch]:
    return geometry.repack(n, k, group), geometry.dequant(n, k, group)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [case.plan for case in (*GEMV.values(), *GEMM.values())]
    plans += [plan for group in (32, 64, 128) for plan in tile_plans(1, 128, group)]
    return program_of(tmp_path_factory.mktemp("w4a16"), plans)


@pytest.mark.parametrize("name", GEMV)
def test_gemv_is_the_truth_in_every_schedule(program: Emulation, name: str) -> None:
    check_in_all_schedules(program, GEMV[name])


@pytest.mark.parametrize("name", GEMM)
def test_gemm_is_the_truth_in_every_schedule(program: Emulation, name: str) -> None:
    check_in_all_schedules(program, GEMM[name])


def test_every_number_of_tokens(program: Emulation) -> None:
    """M = 1..33 through both kernels, with the macros of a case above."""
    tensor = random_tensor(17, 64, 32, 30)
    cases = [gemm_case(m, tensor, tokens=16, warps=2) for m in range(1, 34)]
    tensor = random_tensor(17, 96, 96, 31)
    cases += [gemv_case(m, tensor) for m in (5, 6, 7, 8, *range(10, 17))]
    launches = [case.launch(SCHEDULES[i % len(SCHEDULES)]) for i, case in enumerate(cases)]
    for case, results in zip(cases, program.run(launches), strict=True):
        case.check(results)


def test_the_residual_may_be_the_output(program: Emulation) -> None:
    for case in (GEMV["three of four tokens"], GEMM["split K"]):
        case.check(program.run([case.launch(SCHEDULES[2], is_in_place=True)])[0])


def extreme(codes: int, zero: int, scale: float) -> Int4Tensor:
    """All weights the same, N = 17, K = 64, G = 32."""
    return Int4Tensor(
        qweight=pack_codes(np.full((17, 64), codes, np.uint8)),
        scale=np.full((17, 2), scale, np.float16),
        zero=np.full((17, 2), zero, np.uint8),
        group=32,
    )


def both(tensor: Int4Tensor, x: np.ndarray) -> list[LinearCase]:
    """The same tokens through GEMV and GEMM, with macros of the cases above."""
    return [gemv_case(len(x), tensor, x=x), gemm_case(len(x), tensor, x=x, tokens=16, warps=2)]


@pytest.mark.parametrize(
    ("codes", "zero", "scale"), [(15, 0, 4.0), (0, 15, 4.0), (8, 8, 65504.0), (1, 0, 6e-8)]
)
def test_extreme_weights(program: Emulation, codes: int, zero: int, scale: float) -> None:
    x = np.full((1, 64), 1.0, np.float16)
    x[:, ::3] = 0.125
    for case in both(extreme(codes, zero, scale), x):
        check_in_all_schedules(program, case)


def test_zeros_give_zero_and_one_hot_gives_the_column(program: Emulation) -> None:
    tensor = random_tensor(17, 64, 32, 32)
    for at in (0, 1, 8, 31, 32, 63):
        x = np.zeros((1, 64), np.float16)
        for value in (0.0, 1.0):
            x[0, at] = value
            column = (dequantize(tensor)[:, at] * value).astype(np.float16)
            for case in both(tensor, x):
                [results] = program.run([case.launch(SCHEDULES[1])])
                assert np.array_equal(case.outputs(results)[0], column)


def test_overflow_is_infinity_and_nan_stays_in_its_token(program: Emulation) -> None:
    x = np.full((1, 64), 60000.0, np.float16)
    for case in both(extreme(15, 0, 1.0), x):
        assert np.isposinf(case.outputs(program.run([case.launch()])[0])).all()
    case = GEMM["33 tokens"]
    x = case.case.x.copy()
    x[5, 7] = np.nan
    [results] = program.run([case.with_activations(x).launch()])
    y = case.outputs(results)
    assert np.isnan(y[5]).all()
    assert np.isfinite(np.delete(y, 5, axis=0)).all()


@pytest.mark.parametrize(("n", "k", "group", "pair"), SHAPES)
def test_repack_writes_the_packers_bytes(
    program: Emulation, n: int, k: int, group: int, pair: int
) -> None:
    tensor = random_tensor(n, k, group, 40)
    packed = pack(tensor, pair=pair)
    arrays = (tensor.qweight, tensor.scale, tensor.zero, np.full_like(packed.data, 0xA5))
    sizes = (np.int32(n), np.int32(k), np.int32(group), np.int32(pair))
    repack, _ = tile_plans(n, k, packed.group)
    launches = [launch_of(repack, (*arrays, *sizes), schedule) for schedule in SCHEDULES]
    for results in program.run(launches):
        assert np.array_equal(results[-1], packed.data)


@pytest.mark.parametrize(("n", "k", "group", "pair"), SHAPES)
def test_dequant_gives_numpys_bits(
    program: Emulation, n: int, k: int, group: int, pair: int
) -> None:
    tensor = random_tensor(n, k, group, 41)
    packed = pack(tensor, pair=pair)
    stride = -(-k // 8) * 8 + 8
    y = np.full((n, stride), np.nan, np.float16)
    sizes = (np.int32(n), np.int32(k), np.int32(pair), np.int32(stride))
    _, dequant = tile_plans(n, k, packed.group)
    launches = [launch_of(dequant, (packed.data, y, *sizes), schedule) for schedule in SCHEDULES]
    for results in program.run(launches):
        assert np.array_equal(results[-1][:, :k], dequantize(tensor).astype(np.float16))
        assert not results[-1][:, k : stride - 8].any()  # up to a multiple of 8: zeros
        assert np.isnan(results[-1][:, stride - 8 :]).all()  # beyond: as it was
