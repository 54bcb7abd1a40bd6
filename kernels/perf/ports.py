"""Counts the instructions of the dense and the 2:4 GEMV's loops, where no counters can be read.

    python kernels/perf/ports.py

Compiles both sources as the library does and takes the first loop of each family (groups of 128
inputs) out of the assembly. Arithmetic on 512-bit registers has two ports on Intel's cores; reads,
broadcasts from memory and copies of registers take none. So half of the arithmetic is the least
number of cycles from the caches; what memory adds, sparse24.py measures. Needs g++ and no AVX-512;
exit code 3 without it. (llvm-mca 14 runs 512-bit instructions on a third port, and was no help.)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "csrc" / "cpu"
# Those of kernels/CMakeLists.txt.
FLAGS = "-std=c++17 -O3 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"
PORTS = 2
NOT_ARITHMETIC = ("vmov", "vpbroadcast")
PER_WEIGHTS = 1024
EXIT_NO_TOOLS = 3
LABEL = re.compile(r"(\.L\w+):")
JUMP = re.compile(r"\s+j\w+\s+(\.L\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One inner loop: what a turn of it covers follows from the layout."""

    name: str
    source: str
    symbol: str
    """A part of the mangled name of its function."""
    weights: int
    weight_bytes: int


LOOPS = (
    Loop(name="dense w4a16", source="w4_gemv_avx512.cpp", symbol="8gemv_a16E",
         weights=512, weight_bytes=256),
    Loop(name="2:4 w4a16", source="w4s_gemv_avx512.cpp", symbol="sparse_gemv_a16E",
         weights=1024, weight_bytes=384),
    Loop(name="dense w4a8", source="w4_gemv_avx512.cpp", symbol="7gemv_a8E",
         weights=512, weight_bytes=256),
    Loop(name="2:4 w4a8", source="w4s_gemv_avx512.cpp", symbol="sparse_gemv_a8E",
         weights=1024, weight_bytes=384),
)  # fmt: skip


def body_of(loop: Loop) -> list[str]:
    """The instructions of the first loop without an inner label that multiplies bytes."""
    command = ["g++", "-S", *FLAGS.split(), "-w", "-o", "-", str(SOURCES / loop.source)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    function, label, begin = "", "", 0
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if found := LABEL.match(line):
            label, begin = found[1], at  # a label inside a loop ends it
        elif line and not line[0].isspace() and not line.startswith("#"):
            function, label = line, ""
        elif (jump := JUMP.match(line)) and jump[1] == label and loop.symbol in function:
            body = [one for one in lines[begin + 1 : at + 1] if one.startswith("\t")]
            if any("vpdpbusd" in one for one in body):
                return [one for one in body if not one.strip().startswith(".")]
    raise SystemExit(f"[ports] expected a loop of byte products in {loop.symbol}, found none")


def main() -> int:
    """Print the table."""
    if shutil.which("g++") is None:
        print("[ports] expected g++, got none: apt-get install g++", file=sys.stderr)
        return EXIT_NO_TOOLS
    titles = "instructions | arithmetic | cycles, least | bytes a cycle"
    print(f"| for {PER_WEIGHTS} weights | {titles} |")
    print("|---|---|---|---|---|")
    for loop in LOOPS:
        body = body_of(loop)
        names = [line.split()[0] for line in body if "zmm" in line]
        arithmetic = sum(not name.startswith(NOT_ARITHMETIC) for name in names)
        scale = PER_WEIGHTS / loop.weights
        print(
            f"| {loop.name} | {len(body) * scale:.0f} | {arithmetic * scale:.0f} "
            f"| {arithmetic * scale / PORTS:.0f} | {loop.weight_bytes * PORTS / arithmetic:.1f} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
