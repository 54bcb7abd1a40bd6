"""A stand-in driver under the real nvidia-ml-py: builds it, and rewrites what it answers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "native/nvml/fake_nvml.cpp"
LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED = "!3"
FUNCTION_NOT_FOUND = "!13"
H200 = {
    "name": "NVIDIA H200",
    "memory": 150_754_820_096,
    "energy": 1_000_000,
    "field186": 120_000,
    "field185": 118_000,
    "power": 118_000,
    "limit": 700_000,
    "default_limit": 700_000,
    "event_reasons": 0,
    "throttle_reasons": 0,
    "clock1": 1980,
    "clock2": 3201,
    "max_clock1": 1980,
    "temperature": 41,
    "mig": 0,
}
# What a superchip's driver adds: the module's power and limit, and its memory's average.
MODULE = {"field186.1": 210_000, "field190.1": 1_000_000, "field185.2": 31_000}
# A Jetson's NVML counts a device and refuses everything that a meter asks.
JETSON: dict[str, object] = {"name": "Orin (nvgpu)"}


def build(folder: Path) -> Path:
    """Compile the stand-in; returns its path. Raises FileNotFoundError without a compiler."""
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        raise FileNotFoundError("a C++ compiler")
    library = folder / LIBRARY
    options = ["-std=c++17", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", "-Wall", "-Werror"]
    subprocess.run([compiler, *options, str(SOURCE), "-o", str(library)], check=True)
    return library


class Driver:
    """What the stand-in answers, as a file that it reads on every call."""

    def __init__(self, path: Path, **answers: object) -> None:
        self.path = path
        self.answers = {**H200, **answers}
        self.write()

    def set(self, **answers: object) -> None:
        """Change some answers."""
        self.answers |= answers
        self.write()

    def only(self, answers: dict[str, object]) -> None:
        """Answer nothing else."""
        self.answers = dict(answers)
        self.write()

    def write(self) -> None:
        """Write the file in one go, because another thread may be reading."""
        text = "".join(f"{name} {value}\n" for name, value in self.answers.items())
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)


def load(pynvml: Any, library: Path, monkeypatch: Any) -> None:
    """Make nvidia-ml-py call the stand-in, in this process, for as long as the test lasts."""
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
