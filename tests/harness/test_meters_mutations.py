"""Dropping a rule of the meters fails a test: each rule is taken out of the source, and it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
# Executes a module's changed source in its own namespace, then runs one file of tests on it.
PROGRAM = """
import importlib, inspect, sys
import pytest
name, old, new, tests = sys.argv[1:]
module = importlib.import_module(name)
source = inspect.getsource(module)
if source.count(old) != 1:
    print(f"{name} holds {old!r} {source.count(old)} times")
    sys.exit(99)
exec(compile(source.replace(old, new), module.__file__, "exec"), module.__dict__)
sys.exit(pytest.main([tests, "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly"]))
"""


class Mutation(NamedTuple):
    """A line of the source, what stands there instead, and the tests that must notice."""

    module: str
    old: str
    new: str
    tests: str


MUTATIONS = {
    "the nested rail": Mutation(
        "rails",
        '("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")',
        '("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")',
        "test_meters_jetson.py",
    ),
    "the wrap": Mutation(
        "integrate", "moved += series.range or 0", "moved += 0", "test_meters_rapl.py"
    ),
    "the coverage": Mutation(
        "integrate", "COVERAGE_NEEDED = 0.95", "COVERAGE_NEEDED = 0.0", "test_meters_integrate.py"
    ),
    "the stuck counter": Mutation(
        "integrate", "if i - first > 2 and", "if False and", "test_meters_nvml_real.py"
    ),
    "psys": Mutation(
        "rapl",
        'name.startswith("package"):\n                    zones.setdefault(name, zone)',
        'True:\n                    zones.setdefault(name, zone)',
        "test_meters_rapl.py",
    ),
    "the clock of an external meter": Mutation(
        "csvfile", "if late_s < -AHEAD_S:", "if False:", "test_meters_csv.py"
    ),
}  # fmt: skip


def _case(mutation: Mutation) -> object:
    marks = pytest.mark.meters if "nvml_real" in mutation.tests else ()
    return pytest.param(mutation, marks=marks)


@pytest.mark.parametrize("mutation", [*map(_case, MUTATIONS.values())], ids=MUTATIONS)
def test_a_rule_that_is_dropped_is_missed(mutation: Mutation, root: Path) -> None:
    if "nvml_real" in mutation.tests:
        pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    module, old, new, tests = mutation
    command = [sys.executable, "-c", PROGRAM, f"edgebench.meters.{module}", old, new]
    done = subprocess.run(
        [*command, str(HERE / tests)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == int(pytest.ExitCode.TESTS_FAILED), done.stdout + done.stderr
