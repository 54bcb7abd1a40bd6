"""The parts of the checkout that are no package: tests that a GPU is asked, too."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from edgebench_kernels.cuda.check.events import Unavailable
from edgebench_kernels.cuda.check.supervisor import ROOT


def tests_module(name: str) -> ModuleType:
    """`tests.cuda.<name>`; Unavailable where this is no checkout."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(f"tests.cuda.{name}")
    except ModuleNotFoundError as err:
        if (err.name or "").split(".")[0] != "tests":
            raise
        raise Unavailable(
            f"tests/cuda/{name}.py is not in {ROOT}: run kernels/perf/gpu_check.py of a checkout"
        ) from err
