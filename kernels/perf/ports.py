"""Profiles the loops of the dense and the 2:4 GEMV by llvm-mca, where no counters can be read.

    python kernels/perf/ports.py [--cpu icelake-server] [--out DIR]

Compiles both sources as the library does, takes the first loop of each family (groups of 128
inputs) out of the assembly and lets llvm-mca run it from an endless L1: instructions, cycles, and
how long the busier vector port takes. Nothing is executed, so the machine does not matter; the
model of the core is LLVM's. What memory adds is measured by sparse24.py. Needs g++ and llvm-mca
(Debian: llvm); exit code 3 without them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from edgebench.markdown import header, row

SOURCES = Path(__file__).resolve().parents[1] / "csrc" / "cpu"
# Those of kernels/CMakeLists.txt.
FLAGS = "-std=c++17 -O3 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"
ITERATIONS = 500
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A loop on a core's model, for 1,024 weights."""

    loop: str
    instructions: float
    cycles: float
    vector_cycles: float
    """Of the busier one of the two vector ports."""
    bytes_per_cycle: float
    bytes_per_instruction: float


def body_of(loop: Loop) -> list[str]:
    """The instructions of the first loop without an inner label that multiplies bytes."""
    command = ["g++", "-S", *FLAGS.split(), "-w", "-o", "-", str(SOURCES / loop.source)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    function, begin = "", {}
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if found := LABEL.match(line):
            begin = {found[1]: at}  # a label inside a loop ends it
        elif line and not line[0].isspace() and not line.startswith("#"):
            function, begin = line, {}
        elif (jump := JUMP.match(line)) and jump[1] in begin and loop.symbol in function:
            body = [one for one in lines[begin[jump[1]] + 1 : at + 1] if one.startswith("\t")]
            if any("vpdpbusd" in one for one in body):
                return [one for one in body if not one.strip().startswith(".")]
    raise SystemExit(f"[ports] expected a loop of byte products in {loop.symbol}, found none")


def profile(loop: Loop, cpu: str) -> Profile:
    """Let llvm-mca run one loop."""
    body = body_of(loop)
    text = ".Lagain:\n" + re.sub(r"(\tj\w+\s+)\.L\w+", r"\1.Lagain", "\n".join(body)) + "\n"
    command = ["llvm-mca", f"-mcpu={cpu}", f"-iterations={ITERATIONS}", "-json"]
    told = json.loads(
        subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout
    )
    region = told["CodeRegions"][0]
    cycles = region["SummaryView"]["TotalCycles"] / ITERATIONS
    names = told["TargetInfo"]["Resources"]
    used: dict[str, float] = {}
    for one in region["ResourcePressureView"]["ResourcePressureInfo"]:
        if one["InstructionIndex"] == len(body):  # the sum of a turn
            used[names[one["ResourceIndex"]]] = one["ResourceUsage"]
    scale = PER_WEIGHTS / loop.weights
    return Profile(
        loop=loop.name,
        instructions=len(body) * scale,
        cycles=cycles * scale,
        vector_cycles=max(used[name] for name in used if name.endswith(("Port0", "Port5"))) * scale,
        bytes_per_cycle=loop.weight_bytes / cycles,
        bytes_per_instruction=loop.weight_bytes / len(body),
    )


def main() -> int:
    """Print the table; write ports.json where asked."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--cpu", default="icelake-server", help="llvm-mca -mcpu=help lists them")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    missing = [tool for tool in ("g++", "llvm-mca") if shutil.which(tool) is None]
    if missing:
        print(
            f"[ports] expected {' and '.join(missing)}; apt-get install g++ llvm", file=sys.stderr
        )
        return EXIT_NO_TOOLS
    found = [profile(loop, options.cpu) for loop in LOOPS]
    titles = "instructions", "cycles", "on a vector port", "bytes a cycle", "bytes an instruction"
    print(*header((f"{options.cpu}, {PER_WEIGHTS} weights", *titles)), sep="\n")
    for one in found:
        numbers = (one.instructions, one.cycles, one.vector_cycles)
        shares = (one.bytes_per_cycle, one.bytes_per_instruction)
        print(row((one.loop, *(f"{n:.0f}" for n in numbers), *(f"{n:.1f}" for n in shares))))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        told = {"cpu": options.cpu, "loops": [asdict(one) for one in found]}
        (options.out / "ports.json").write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
