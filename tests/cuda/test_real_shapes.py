"""What `gpu_check.py` asks of a GPU, asked of the emulator on small shapes; all of it compiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench_kernels.cuda.kernels import KERNELS

from . import real_shapes
from .emulation import Emulation, EmulationError, Launch, content_of
from .planted import program_of
from .real_check import Check, Place

pytestmark = [pytest.mark.native, pytest.mark.slow]

HOPPER = Place(arch="sm_90a", multiprocessors=3, shared_bytes=227 << 10)
ORIN = Place(arch="sm_87", multiprocessors=2, shared_bytes=163 << 10)
SMALL = {check.name: check for check in real_shapes.small_checks(HOPPER)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    plans = [plan for check in SMALL.values() for plan in check.plans]
    return program_of(tmp_path_factory.mktemp("real"), plans)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_check_passes(program: Emulation, name: str) -> None:
    SMALL[name].run(program)


class Spoilt:
    """A runner after whose launches a number of everything that a kernel wrote is wrong."""

    def __init__(self, program: Emulation, is_late: bool = False) -> None:
        self._program, self._is_late = program, is_late

    def run(self, launches: list[Launch]) -> list[list[NDArray]]:
        results = self._program.run(launches)
        for launch, arrays in list(zip(launches, results, strict=True))[self._is_late :]:
            contents = map(content_of, launch.arguments)
            given = [one for one in contents if isinstance(one, np.ndarray)]
            for place, before in enumerate(given):
                if before.tobytes() != arrays[place].tobytes():
                    arrays[place] = spoilt(arrays[place])
        return results


def spoilt(array: NDArray) -> NDArray:
    """The last number changed by more than rounding explains."""
    changed = array.copy()
    flat = changed.reshape(-1)
    if flat.size:
        flat[-1] = flat[-1] * 1.5 + 3 if array.dtype.kind == "f" else flat[-1] ^ 1
    return changed


@pytest.mark.parametrize("name", SMALL)
def test_a_wrong_number_is_found(program: Emulation, name: str) -> None:
    with pytest.raises(AssertionError):
        SMALL[name].run(Spoilt(program))


def test_results_that_change_are_found(program: Emulation) -> None:
    with pytest.raises(AssertionError, match="other bits the second time"):
        SMALL["swiglu"].run(Spoilt(program, is_late=True))


def kernels_of(checks: list[Check]) -> set[str]:
    return {plan.kernel for check in checks for plan in check.plans}


def test_a_gpu_is_asked_for_every_kernel_of_the_table() -> None:
    assert kernels_of(real_shapes.checks(HOPPER)) == set(KERNELS)
    here = {name for name, row in KERNELS.items() if "sm_87" in row.architectures}
    assert kernels_of(real_shapes.checks(ORIN)) == here


def test_real_launches_fit_their_gpu() -> None:
    h200 = replace(HOPPER, multiprocessors=132)
    for place in (h200, ORIN):
        for check in real_shapes.checks(place):
            for plan in check.plans:
                assert plan.shared_bytes <= place.shared_bytes, check.name


def test_names_are_different() -> None:
    names = [check.name for check in real_shapes.checks(HOPPER)]
    assert len(set(names)) == len(names)


def test_an_error_of_the_runner_is_not_swallowed() -> None:
    class Broken:
        def run(self, launches: list[Launch]) -> list[list[np.ndarray]]:
            raise EmulationError("[gpu] the context was lost")

    with pytest.raises(EmulationError, match="context was lost"):
        SMALL["argmax"].run(Broken())
