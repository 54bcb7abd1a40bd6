"""What the compiler made of each kernel on each architecture, held against a committed table.

    python -m edgebench_kernels.cuda.census             compares; exit code 1 on a difference
    python -m edgebench_kernels.cuda.census --write     writes tests/cuda/census.json anew

Needs no GPU: NVRTC compiles, NVIDIA's disassembler reads (pip install 'edgebench[cuda-dev]', which
pins the NVRTC that the table was made with: another compiler makes another census).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edgebench_kernels.cuda import compile as nvrtc
from edgebench_kernels.cuda import cubin, sass
from edgebench_kernels.cuda.errors import CompileError
from edgebench_kernels.cuda.kernels import KERNELS, Kernel, Variant, build
from edgebench_kernels.native import default_threads

TABLE = Path(__file__).parents[3] / "tests" / "cuda" / "census.json"
WRITE = "python -m edgebench_kernels.cuda.census --write"

_REGISTERS = re.compile(r"Used (\d+) registers")
_FRAME = re.compile(
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", re.ASCII
)
# "wgmma.mma_async instructions are serialized due to ..." and its like
_SERIALIZED = re.compile(r"Potential Performance Loss|serialized", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kernel, one set of macros, one architecture. Counts are of instructions in its code."""

    registers: int
    stack_bytes: int
    spill_bytes: int
    """Stores and loads, as ptxas says."""
    local: int
    """LDL and STL: local memory, which is what spills and indexed arrays become."""
    HMMA: int
    IMMA: int
    HGMMA: int
    """Of HGMMA and IGMMA: the wgmma instructions."""
    LDGSTS: int
    BAR: int
    STG: int
    """Stores to global memory: without one, a kernel does nothing."""
    serialized: int
    """ptxas' warnings that tensor-core instructions wait for each other."""
    per_word: float | None
    """Instructions of the main loop for each packed word (256 weights in a warp)."""


Census = dict[str, dict[str, dict[str, Row]]]
"""Kernel -> macros -> architecture -> row."""


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    variant: Variant
    arch: str


def take() -> Census:
    """Compile and count every row of KERNELS, on all CPUs of this process."""
    jobs = [
        _Job(name, variant, arch)
        for name, kernel in KERNELS.items()
        for variant in kernel.variants
        for arch in kernel.architectures
    ]
    # A process each: NVRTC compiles one program at a time.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(default_threads(), mp_context=context) as pool:
        compiled = list(pool.map(_compile, jobs))
    census: Census = {}
    for job, row in zip(jobs, _rows(jobs, compiled), strict=True):
        variants = census.setdefault(job.name, {})
        variants.setdefault(macro_text(job.variant), {})[job.arch] = row
    return census


def problems(census: Census) -> list[str]:
    """What no kernel may have: a stack, spills, local memory; or lack: tensor cores, a store."""
    found = []
    for name, variants in census.items():
        for macros, rows in variants.items():
            for arch, row in rows.items():
                where = f"{name} {macros} {arch}"
                found += [f"{where}: {text}" for text in _problems(KERNELS[name], row)]
    return found


def _problems(kernel: Kernel, row: Row) -> list[str]:
    tensor = "HGMMA" if kernel.tensor == "IGMMA" else kernel.tensor
    facts = {
        f"a stack of {row.stack_bytes} bytes": row.stack_bytes > 0,
        f"{row.spill_bytes} bytes of spills": row.spill_bytes > 0,
        f"{row.local} LDL and STL": row.local > 0,
        f"{row.serialized} warnings of serialized tensor-core instructions": row.serialized > 0,
        "no STG: it stores nothing": row.STG == 0,
        f"no {kernel.tensor}": tensor is not None and getattr(row, tensor) == 0,
    }
    return [text for text, is_so in facts.items() if is_so]


def differences(old: Census, new: Census) -> list[str]:
    """Each number that differs, as `kernel macros arch: name old -> new`."""
    before, after = _flat(old), _flat(new)
    found = [f"{key}: not in the table" for key in after.keys() - before.keys()]
    found += [f"{key}: no longer compiled" for key in before.keys() - after.keys()]
    for key in before.keys() & after.keys():
        found += [
            f"{key}: {field.name} {getattr(before[key], field.name)} -> {value}"
            for field in fields(Row)
            if (value := getattr(after[key], field.name)) != getattr(before[key], field.name)
        ]
    return sorted(found)


def dump(census: Census, compiler: str) -> str:
    """The table as JSON, one row a line, so that a change is one line of a diff."""
    lines = ["{", f'"compiler": {json.dumps(compiler)},', f'"command": {json.dumps(WRITE)},']
    kernels = []
    for name, variants in census.items():
        blocks = []
        for macros, rows in variants.items():
            shown = [f"   {json.dumps(arch)}: {_row_text(row)}" for arch, row in rows.items()]
            blocks.append(f"  {json.dumps(macros)}: {{\n" + ",\n".join(shown) + "\n  }")
        kernels.append(f" {json.dumps(name)}: {{\n" + ",\n".join(blocks) + "\n }")
    return "\n".join([*lines, '"kernels": {', ",\n".join(kernels), "}", "}"]) + "\n"


def load(path: Path = TABLE) -> tuple[Census, str]:
    """The committed table and the compiler that it was made with."""
    table = json.loads(path.read_text(encoding="utf-8"))
    census = {
        name: {
            macros: {arch: Row(**row) for arch, row in rows.items()}
            for macros, rows in variants.items()
        }
        for name, variants in table["kernels"].items()
    }
    return census, table["compiler"]


def macro_text(variant: Variant) -> str:
    """The macros as the table names them."""
    return " ".join(f"{name}={value}" for name, value in variant.macros)


def _compile(job: _Job) -> nvrtc.Cubin:
    return build(job.name, job.arch, dict(job.variant.macros))


def _rows(jobs: Sequence[_Job], compiled: Sequence[nvrtc.Cubin]) -> list[Row]:
    """A row for each job; one run of the disassembler for each architecture."""
    rows: dict[int, Row] = {}
    for arch in dict.fromkeys(job.arch for job in jobs):
        indices = [i for i, job in enumerate(jobs) if job.arch == arch]
        codes = [cubin.kernel_code(compiled[i].code)[jobs[i].name] for i in indices]
        for i, instructions in zip(indices, sass.disassemble(codes, arch), strict=True):
            rows[i] = row_of(jobs[i].name, jobs[i].variant, compiled[i].log, instructions)
    return [rows[i] for i in range(len(jobs))]


def row_of(name: str, variant: Variant, log: str, instructions: Sequence[sass.Instruction]) -> Row:
    """Count one kernel: `log` is the compiler's, `instructions` are the disassembler's."""
    said = entry_log(log, name)
    registers, frame = _REGISTERS.search(said), _FRAME.search(said)
    if registers is None or frame is None:
        raise CompileError(f"[census] the compiler's log does not tell of {name}:\n{log}")
    count = Counter(instruction.operation for instruction in instructions)
    return Row(
        registers=int(registers[1]),
        stack_bytes=int(frame[1]),
        spill_bytes=int(frame[2]) + int(frame[3]),
        local=count["LDL"] + count["STL"],
        HMMA=count["HMMA"],
        IMMA=count["IMMA"],
        HGMMA=count["HGMMA"] + count["IGMMA"],
        LDGSTS=count["LDGSTS"],
        BAR=count["BAR"],
        STG=count["STG"],
        serialized=sum(bool(_SERIALIZED.search(line)) for line in log.splitlines()),
        per_word=per_word(variant, instructions),
    )


def entry_log(log: str, name: str) -> str:
    """What ptxas said of one kernel of a file."""
    _, _, rest = log.partition(f"Compiling entry function '{name}'")
    return rest.partition("Compiling entry function")[0]


def per_word(variant: Variant, instructions: Sequence[sass.Instruction]) -> float | None:
    """Instructions of the main loop for each packed word that it consumes."""
    if variant.tensor_per_word is None:
        return None
    body = sass.main_loop(instructions)
    tensor = sum(instruction.operation in sass.TENSOR for instruction in body)
    return round(len(body) * variant.tensor_per_word / tensor, 2) if tensor else None


def _flat(census: Census) -> dict[str, Row]:
    return {
        f"{name} {macros} {arch}": row
        for name, variants in census.items()
        for macros, rows in variants.items()
        for arch, row in rows.items()
    }


def _row_text(row: Row) -> str:
    return json.dumps(asdict(row))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name} anew")
    asked = parser.parse_args(arguments)
    if not TABLE.parent.is_dir():
        parser.error(f"the census is held in the source tree, and there is no {TABLE.parent}")
    census, compiler = take(), nvrtc.nvrtc_version()
    wrong = problems(census)
    if asked.write:
        TABLE.write_text(dump(census, compiler), encoding="utf-8")
    else:
        old, old_compiler = load()
        wrong += differences(old, census)
        if old_compiler != compiler:
            wrong.append(f"the table was made with NVRTC {old_compiler}, this is {compiler}")
    said = f"written to {TABLE}" if asked.write else "as the table says"
    print("\n".join([*wrong, f"{len(_flat(census))} rows" + ("" if wrong else f", {said}")]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
