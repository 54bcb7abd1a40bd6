"""SASS, the GPU's own instructions, as NVIDIA's disassembler shows them; and a kernel's main loop.

python -m pip install nvidia-cuda-nvdisasm     or the extra 'edgebench[cuda-dev]'
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench_kernels.cuda.cubin import INSTRUCTION_BYTES
from edgebench_kernels.cuda.errors import CudaUnavailable
from edgebench_kernels.cuda.loops import innermost_loops

TENSOR = frozenset({"HMMA", "IMMA", "HGMMA", "IGMMA"})
_PROGRAM = "nvdisasm"
_WHEEL_PLACES = ("nvidia/cu13/bin", "nvidia/cuda_nvdisasm/bin", "nvidia/cu12/bin")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `target` is the index of the instruction that it may jump to."""

    opcode: str
    operands: str
    target: int | None
    is_conditional: bool

    @property
    def operation(self) -> str:
        """The opcode without its modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def ends_block(self) -> bool:
        """True where the next instruction is never reached from this one."""
        return self.operation in ("BRA", "EXIT", "RET") and not self.is_conditional


def disassembler() -> Path:
    """nvdisasm, of pip's package or the toolkit; CudaUnavailable, with the command, without it."""
    site = Path(sysconfig.get_paths()["purelib"])
    for place in _WHEEL_PLACES:
        if (site / place / _PROGRAM).is_file():
            return site / place / _PROGRAM
    if found := shutil.which(_PROGRAM):
        return Path(found)
    raise CudaUnavailable(
        f"[cuda] {_PROGRAM} is needed for the census and was not found; "
        "pip install 'edgebench[cuda-dev]'"
    )


def disassemble(kernels: Sequence[bytes], arch: str) -> list[list[Instruction]]:
    """The instructions of each kernel's code, all in one run of the disassembler."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.bin"
        path.write_bytes(b"".join(kernels))
        done = subprocess.run(
            [str(disassembler()), "-json", "--binary", arch.replace("sm_", "SM"), str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise CudaUnavailable(f"[cuda] {_PROGRAM} failed: {done.stderr.strip()}")
    ((function,),) = json.loads(done.stdout)[1:]
    rows = function["sass-instructions"]
    found, start = [], 0
    for code in kernels:
        count = len(code) // INSTRUCTION_BYTES
        found.append([_instruction(row, start) for row in rows[start : start + count]])
        start += count
    return found


def _instruction(row: dict[str, str], start: int) -> Instruction:
    """One row of nvdisasm's JSON, of the kernel that begins at instruction `start`."""
    opcode, operands = row["opcode"], row.get("operands", "")
    target, is_conditional = None, "predicate" in row
    if opcode.partition(".")[0] == "BRA":
        *conditions, address = operands.split(",")  # BRA.DIV names a register first
        target = int(address, 16) // INSTRUCTION_BYTES - start
        is_conditional = is_conditional or bool(conditions)
    return Instruction(opcode, operands, target, is_conditional)


def main_loop(instructions: Sequence[Instruction]) -> list[Instruction]:
    """The instructions of the loop that computes; empty where there is no such loop.

    Of the loops around tensor-core operations that have none of the others inside, the one with the
    most of them.

    Counted as written: of a branch inside the loop both sides count, a loop without tensor-core
    operations inside it counts once.
    """
    edges = [(i, row.target) for i, row in enumerate(instructions) if row.target is not None]
    ends = {i for i, row in enumerate(instructions) if row.ends_block}
    tensor = {i for i, row in enumerate(instructions) if row.operation in TENSOR}
    loops = innermost_loops(len(instructions), edges, ends, tensor)
    best = max(loops, key=lambda body: len(body & tensor), default=set())
    return [instructions[i] for i in sorted(best)]
