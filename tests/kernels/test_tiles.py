"""`perf/tiles.cpp` compiles where g++ knows AMX, and either measures or says what is missing."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

FLAGS = (
    "-O2",
    "-std=c++17",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-mavx512f",
    "-mamx-tile",
    "-mamx-int8",
)
SOURCES = ("perf/tiles.cpp", "csrc/cpu/amx_permission.cpp")
NO_AMX = 3
WORK = 8

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is x86-64's"),
]


def test_it_measures_or_says_why_not(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "tiles"
    command = ["g++", *FLAGS, *SOURCES, "-o", program]
    subprocess.run(command, cwd=root / "kernels", check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    rows = done.stdout.splitlines()[2:]
    if done.returncode == NO_AMX:
        assert "AMX" in done.stderr
        assert not rows
    else:
        assert done.returncode == 0
        assert len(rows) == WORK
        alone, beside = (float(cell) for cell in rows[0].split("|")[2:4])
        assert 0 < alone < beside
