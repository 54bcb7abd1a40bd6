"""The primitives of one lane against numpy; all of them through NVRTC for every architecture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda.architectures import ARCHITECTURES
from edgebench_kernels.cuda.compile import compile_file

from .emulation import EMULATOR, SCHEDULES, Emulation, Launch, Variant

TOYS = EMULATOR / "toys_lanes.cu"
NAMES = ("toy_bits", "toy_floats", "toy_memory")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    variants = [Variant(file=str(TOYS), kernel=name) for name in NAMES]
    return Emulation(tmp_path_factory.mktemp("lanes"), variants)


def run(toys: Emulation, name: str, *arrays: NDArray, blocks: int = 1) -> list[list[NDArray]]:
    """The buffers after the launch, for each schedule."""
    launches = [
        Launch(
            variant=Variant(file=str(TOYS), kernel=name),
            grid=(blocks, 1, 1),
            threads=64 if name == "toy_memory" else 32,
            shared_bytes=528,
            arguments=arrays,
            schedule=schedule,
        )
        for schedule in SCHEDULES
    ]
    return toys.run(launches)


def halves(words: NDArray[np.uint32]) -> NDArray[np.float16]:
    return words.reshape(-1, 1).view(np.float16)


def pairs(values: NDArray) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, dtype=np.float16).view(np.uint32)[:, 0]


@pytest.mark.native
def test_bits_and_halves(toys: Emulation) -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(0, 2**32, 64, dtype=np.uint32) for _ in range(3))
    selectors = c & np.uint32(0x77777777)
    numbers = [rng.standard_normal((64, 2)).astype(np.float16) for _ in range(3)]
    x, y, z = (pairs(value) for value in numbers)
    empty = np.zeros((64, 9), np.uint32)
    for words in run(toys, "toy_bits", a, b, c, empty, blocks=2):
        result = words[-1]
        assert np.array_equal(result[:, 0], (a & b) | c)
        assert np.array_equal(result[:, 1], (a & b) ^ c)
        signed = [v.reshape(-1, 1).view(np.int8).astype(np.int64) for v in (a, b)]
        dot = (signed[0] * signed[1]).sum(axis=1) + c
        assert np.array_equal(result[:, 3], dot.astype(np.uint32))
    for words in run(toys, "toy_bits", a, b, selectors, empty, blocks=2):
        eight = np.concatenate([v.reshape(-1, 1).view(np.uint8) for v in (a, b)], axis=1)
        chosen = (selectors[:, None] >> np.array([0, 4, 8, 12], np.uint32)) & 7
        taken = np.take_along_axis(eight, chosen.astype(np.int64), axis=1)
        assert np.array_equal(words[-1][:, 2], np.ascontiguousarray(taken).view(np.uint32)[:, 0])
    wide = [value.astype(np.float64) for value in numbers]
    for words in run(toys, "toy_bits", x, y, z, empty, blocks=2):
        result = words[-1]
        assert np.array_equal(result[:, 4], pairs(wide[0] + wide[1]))
        assert np.array_equal(result[:, 5], pairs(wide[0] - wide[1]))
        assert np.array_equal(result[:, 6], pairs(wide[0] * wide[1]))
        assert np.array_equal(result[:, 7], pairs(wide[0] * wide[1] + wide[2]))
        sums = (wide[0][:, 0] + wide[1][:, 1]).astype(np.float32)
        assert np.array_equal(result[:, 8].copy().view(np.float32), sums)


@pytest.mark.native
def test_floats(toys: Emulation) -> None:
    rng = np.random.default_rng(1)
    a = np.concatenate([rng.standard_normal(30) * 50, [2.5, -300.0]]).astype(np.float32)
    b = rng.standard_normal(32).astype(np.float32)
    for buffers in run(toys, "toy_floats", a, b, np.zeros((32, 8), np.float32)):
        result = buffers[-1].astype(np.float64)
        wide = a.astype(np.float64)
        assert np.array_equal(result[:, 0], np.clip(np.rint(wide), -128, 127))
        for column, expected in enumerate((2**wide, 1 / wide, np.abs(wide) ** -0.5), 1):
            assert np.allclose(result[:, column], expected, rtol=2e-6, atol=1e-38)
        assert np.array_equal(result[:, 4], np.maximum(a, b))
        assert np.array_equal(result[:, 5], np.minimum(a, b))
        low, high = a.astype(np.float16), b.astype(np.float16)
        assert np.array_equal(result[:, 6], low.astype(np.float32) - high.astype(np.float32))
        assert np.array_equal(result[:, 7], low)


@pytest.mark.native
def test_rarer_ways_to_memory(toys: Emulation) -> None:
    x = np.random.default_rng(2).integers(0, 2**16, 256, dtype=np.uint16)
    zeros = np.zeros(1, np.uint32), np.zeros(1, np.uint64)
    for _, y, odd, most in run(toys, "toy_memory", x, np.zeros_like(x), *zeros):
        assert np.array_equal(y, x.reshape(-1, 2)[:, ::-1].reshape(-1))
        assert odd[0] == sum(int(value % 2) << i for i, value in enumerate(x[:32]))
        assert most[0] == x[:32].max()


@pytest.mark.nvrtc
@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", ["toys.cu", "toys_lanes.cu"])
def test_nvrtc_takes_every_primitive(name: str, arch: str) -> None:
    assert compile_file(EMULATOR / name, arch).code[:4] == b"\x7fELF"
