"""The census: loops and counts on small programs; the committed table against the compiler."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgebench_kernels.cuda import census, cubin, kernels, sass
from edgebench_kernels.cuda.compile import compile_file, nvrtc_version, source_folder
from edgebench_kernels.cuda.errors import CompileError, CudaUnavailable
from edgebench_kernels.cuda.kernels import KERNELS, PARAMETERS, Variant, build
from edgebench_kernels.cuda.loops import innermost_loops, natural_loops
from edgebench_kernels.cuda.sass import Instruction, disassemble, main_loop

GOOD = census.Row(
    registers=60,
    stack_bytes=0,
    spill_bytes=0,
    local=0,
    HMMA=32,
    IMMA=0,
    HGMMA=0,
    LDGSTS=28,
    BAR=3,
    STG=9,
    serialized=0,
    per_word=17.25,
)
NAME = "w4a16_gemv"  # some row that needs HMMA
VARIANT = Variant(macros=(("EB_GROUP", 128),), tensor_per_word=2)
MACROS = "EB_GROUP=128"


@pytest.fixture
def disassembler() -> Path:
    """nvdisasm, or a skip that names what is missing."""
    try:
        return sass.disassembler()
    except CudaUnavailable as err:
        pytest.skip(str(err))


# ----------------------------------------------------------------------------------------- loops


def test_a_loop_and_a_branch_inside_it() -> None:
    #      0 -> 1 -> 2 -> 4 -> 1 (back), 2 -> 3 -> 4, 4 -> 5
    assert natural_loops([[1], [2], [3, 4], [4], [1, 5], []]) == [{1, 2, 3, 4}]


def test_two_ways_back_are_one_loop() -> None:
    assert natural_loops([[1], [2], [1, 3], [1, 4], []]) == [{1, 2, 3}]


def test_nested_loops() -> None:
    bodies = natural_loops([[1], [2], [2, 3], [1, 4], []])
    assert sorted(map(sorted, bodies)) == [[1, 2, 3], [2]]


def test_a_loop_of_one_instruction() -> None:
    assert natural_loops([[1], [1, 2], []]) == [{1}]


def test_code_out_of_line_makes_no_loop() -> None:
    """0 1 2 3, and 4 far below, which 1 jumps to and which jumps back to 2."""
    assert natural_loops([[1], [2, 4], [3], [], [2]]) == []


def test_a_loop_with_two_entries_is_none() -> None:
    """Neither 1 nor 2 dominates the other."""
    assert natural_loops([[1, 2], [2], [1]]) == []


def test_code_that_is_never_reached_is_left_out() -> None:
    assert natural_loops([[1], [], [2, 1]]) == []


def test_only_the_innermost_interesting_loops() -> None:
    branches = [(2, 2), (3, 1), (5, 5)]  # 2 alone, 1..3 around it, 5 alone
    assert sorted(map(sorted, innermost_loops(7, branches, {6}, {2, 5}))) == [[2], [5]]
    assert innermost_loops(7, branches, {6}, {1}) == [{1, 2, 3}]
    assert innermost_loops(7, branches, {6}, {0}) == []


def program(text: str) -> list[Instruction]:
    """Instructions from lines `OPCODE [target] [?]`; ? is a condition."""
    rows = []
    for line in text.split("\n"):
        opcode, *rest = line.split()
        target = next((int(word) for word in rest if word.isdigit()), None)
        rows.append(Instruction(opcode, "", target, "?" in rest))
    return rows


UNROLLED = program(
    """LDC
HMMA.16816.F32
HMMA.16816.F32
LDS
IADD3
BRA 1 ?
HMMA.16816.F32
BRA 6 ?
BRA 9 ?
EXIT
BRA 10"""
)


def test_the_main_loop_is_the_one_with_most_tensor_operations() -> None:
    body = main_loop(UNROLLED)
    assert [row.operation for row in body] == ["HMMA", "HMMA", "LDS", "IADD3", "BRA"]


def test_instructions_for_each_word() -> None:
    variant = Variant(macros=(), tensor_per_word=2)  # five instructions, two HMMA, so one word
    assert census.per_word(variant, UNROLLED) == 5
    assert census.per_word(dataclasses.replace(variant, tensor_per_word=1), UNROLLED) == 2.5
    assert census.per_word(dataclasses.replace(variant, tensor_per_word=None), UNROLLED) is None
    assert census.per_word(variant, program("LDG\nSTG\nEXIT")) is None


def test_an_unconditional_branch_ends_a_block() -> None:
    """The loop 3..4 is never reached, as 1 leaves."""
    assert main_loop(program("LDC\nBRA 5\nEXIT\nHMMA\nBRA 3 ?\nEXIT")) == []


# ----------------------------------------------------------------------------------------- table


LOG = """ptxas info    : 96 bytes gmem
ptxas info    : Compiling entry function 'other' for 'sm_80'
ptxas         .     8 bytes stack frame, 1 bytes spill stores, 2 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
ptxas info    : Compiling entry function 'mine' for 'sm_80'
ptxas info    : Function properties for mine
ptxas         .     16 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 60 registers, used 1 barriers, 372 bytes cmem[0]"""


def test_a_row_is_read_from_its_own_kernels_log() -> None:
    row = census.row_of("mine", VARIANT, LOG, UNROLLED)
    assert (row.registers, row.stack_bytes, row.spill_bytes) == (60, 16, 16)
    assert (row.HMMA, row.LDGSTS, row.serialized) == (3, 0, 0)
    said = "(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to"
    assert census.row_of("mine", VARIANT, f"{said}\n{LOG}", UNROLLED).serialized == 1


def test_a_log_without_the_kernel() -> None:
    with pytest.raises(CompileError, match="does not tell of absent"):
        census.row_of("absent", VARIANT, LOG, UNROLLED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stack_bytes": 16}, "a stack of 16 bytes"),
        ({"spill_bytes": 4}, "4 bytes of spills"),
        ({"local": 1}, "1 LDL and STL"),
        ({"serialized": 1}, "1 warnings of serialized tensor-core instructions"),
        ({"HMMA": 0}, "no HMMA"),
        ({"STG": 0}, "no STG: it stores nothing"),
    ],
)
def test_what_no_kernel_may_have(change: dict[str, int], said: str) -> None:
    assert census.problems({NAME: {MACROS: {"sm_80": GOOD}}}) == []
    bad = {NAME: {MACROS: {"sm_80": GOOD, "sm_87": dataclasses.replace(GOOD, **change)}}}
    assert census.problems(bad) == [f"{NAME} {MACROS} sm_87: {said}"]


def test_wgmma_on_bytes_is_counted_with_wgmma(monkeypatch: pytest.MonkeyPatch) -> None:
    row = kernels.Kernel(file="x.cu", parameters=(), variants=(), tensor="IGMMA")
    monkeypatch.setitem(KERNELS, "bytes", row)
    taken = {"bytes": {"": {"sm_90a": dataclasses.replace(GOOD, HGMMA=0)}}}
    assert census.problems(taken) == ["bytes  sm_90a: no IGMMA"]
    taken = {"bytes": {"": {"sm_90a": dataclasses.replace(GOOD, HGMMA=4)}}}
    assert census.problems(taken) == []


def test_differences_name_each_number() -> None:
    old = {NAME: {MACROS: {"sm_80": GOOD, "sm_86": GOOD}}}
    assert census.differences(old, old) == []
    changed = dataclasses.replace(GOOD, registers=61, per_word=18.0)
    new = {NAME: {MACROS: {"sm_80": changed, "sm_87": GOOD}}}
    assert census.differences(old, new) == [
        f"{NAME} {MACROS} sm_80: per_word 17.25 -> 18.0",
        f"{NAME} {MACROS} sm_80: registers 60 -> 61",
        f"{NAME} {MACROS} sm_86: no longer compiled",
        f"{NAME} {MACROS} sm_87: not in the table",
    ]


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    taken = {
        NAME: {MACROS: {"sm_80": GOOD, "sm_87": dataclasses.replace(GOOD, per_word=None)}},
        "other": {"": {"sm_80": GOOD}},
    }
    path = tmp_path / "census.json"
    path.write_text(census.dump(taken, "13.0"))
    assert census.load(path) == (taken, "13.0")
    rows = [line for line in path.read_text().splitlines() if '"registers"' in line]
    assert len(rows) == 3  # one row a line


def test_the_committed_table_holds_every_row() -> None:
    """Whatever the compiler of this machine is."""
    committed, _ = census.load()
    assert {
        (name, macros, arch)
        for name, variants in committed.items()
        for macros, rows in variants.items()
        for arch in rows
    } == {
        (name, census.macro_text(variant), arch)
        for name, kernel in KERNELS.items()
        for variant in kernel.variants
        for arch in kernel.architectures
    }, f"write it anew: {census.WRITE}"


def test_the_committed_table_is_clean() -> None:
    committed, _ = census.load()
    assert census.problems(committed) == []


# --------------------------------------------------------------------------------------- KERNELS


def signature(name: str, text: str) -> list[str]:
    """The parameters of a kernel as its source declares them."""
    (found,) = re.findall(rf"EB_KERNEL\([^;{{]*?\)\s*{name}\((.*?)\)\s*\{{", text, re.DOTALL)
    kinds = []
    for parameter in found.split(","):
        kind = parameter.replace("__restrict__", "").replace("const", "").rsplit(maxsplit=1)[0]
        kinds.append("pointer" if "*" in parameter else kind.strip())
    c_types = {
        "int": "int32",
        "s32": "int32",
        "s64": "int64",
        "float": "float32",
        "EB_TENSOR_MAP": "tensor_map",
    }
    return [c_types.get(kind, kind) for kind in kinds]


@pytest.mark.parametrize("name", KERNELS)
def test_the_table_passes_what_the_source_declares(name: str) -> None:
    text = (source_folder() / KERNELS[name].file).read_text()
    assert signature(name, text) == list(KERNELS[name].parameters)
    assert set(KERNELS[name].parameters) <= set(PARAMETERS)


def test_every_kernel_of_a_source_is_in_the_table() -> None:
    declared = {
        (path.name, name)
        for path in source_folder().glob("*.cu")
        for name in re.findall(r"EB_KERNEL\([^;{]*?\)\s*(\w+)\(", path.read_text())
    }
    assert declared == {(kernel.file, name) for name, kernel in KERNELS.items()}


@pytest.mark.parametrize("name", KERNELS)
def test_variants_are_told_apart(name: str) -> None:
    texts = [census.macro_text(variant) for variant in KERNELS[name].variants]
    assert texts
    assert len(set(texts)) == len(texts)


def test_an_unknown_kernel() -> None:
    with pytest.raises(CompileError, match=r"expected a kernel out of .*w4a16_gemv.*, got 'gemv'"):
        build("gemv", "sm_80", {})


def test_a_kernel_for_some_architectures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(KERNELS[NAME], architectures=("sm_90a",))
    monkeypatch.setitem(KERNELS, NAME, row)
    with pytest.raises(CompileError, match=rf"\[{NAME}\] expected an architecture out of sm_90a"):
        build(NAME, "sm_80", {})


# -------------------------------------------------------------------------------------- compiler

LOCAL = """
extern "C" __global__ void indexed(float* y, const float* x, int i) {
  float kept[256];
  for (int j = 0; j < 256; ++j) kept[j * i % 256] = x[32 * j + threadIdx.x] * x[j];
  __syncthreads();
  y[threadIdx.x] = kept[(i + threadIdx.x) % 256] + kept[i % 256];
}
extern "C" __global__ void __launch_bounds__(1024) spilled(float* y, const float* x) {
  float kept[128];
#pragma unroll
  for (int j = 0; j < 128; ++j) kept[j] = x[1024 * j + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int j = 0; j < 128; ++j) y[1024 * j + threadIdx.x] = kept[127 - j] * kept[j];
}
"""
OPERATIONS = """
typedef unsigned u32;
extern "C" __global__ void everything(float* y, const u32* x, unsigned long long descriptor) {
  extern __shared__ __align__(16) unsigned char memory[];
  const u32 at = (u32)__cvta_generic_to_shared(memory + 16 * threadIdx.x);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(x + 4 * threadIdx.x));
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 0;");
  __syncthreads();
  float c[4] = {0, 0, 0, 0};
  int s[4] = {0, 0, 0, 0};
  const u32* const a = (const u32*)memory + threadIdx.x;
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[32]), "r"(a[64]), "r"(a[96]), "r"(a[128]), "r"(a[160]));
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(s[0]), "+r"(s[1]), "+r"(s[2]), "+r"(s[3])
      : "r"(a[0]), "r"(a[32]), "r"(a[64]), "r"(a[96]), "r"(a[128]), "r"(a[160]));
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.fence.sync.aligned;");
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, 1, 1, 1, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[32]), "r"(a[64]), "r"(a[96]), "l"(descriptor));
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
      "{%0, %1, %2, %3}, %4, %4, 1, 1, 1, 0, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "l"(descriptor));
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k32.s32.s8.s8 {%0, %1, %2, %3}, %4, %4, 1;"
      : "+r"(s[0]), "+r"(s[1]), "+r"(s[2]), "+r"(s[3])
      : "l"(descriptor));
  asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");
#endif
  for (int i = 0; i < 4; ++i) y[4 * threadIdx.x + i] = c[i] + s[i];
}
"""


def counts(code: bytes, arch: str) -> tuple[Counter[str], Counter[str]]:
    """Operations of one kernel: by our reading of the code, and by the disassembler's."""
    (instructions,) = disassemble([code], arch)
    shown = Counter(row.operation for row in instructions)
    known = set(cubin.OPERATIONS.values())
    return cubin.count_operations(code), Counter({k: v for k, v in shown.items() if k in known})


@pytest.mark.nvrtc
@pytest.mark.usefixtures("disassembler", "cache_folder")
@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_87", "sm_89", "sm_90a"])
def test_operations_are_read_as_the_disassembler_reads_them(arch: str, tmp_path: Path) -> None:
    path = tmp_path / "everything.cu"
    path.write_text(OPERATIONS)
    code = cubin.kernel_code(compile_file(path, arch).code)["everything"]
    ours, theirs = counts(code, arch)
    assert ours == theirs
    expected = set(cubin.OPERATIONS.values()) if arch == "sm_90a" else {"HMMA", "IMMA", "LDGSTS"}
    assert expected <= set(ours)


@pytest.mark.nvrtc
@pytest.mark.usefixtures("disassembler", "cache_folder")
@pytest.mark.parametrize("arch", ["sm_87", "sm_90a"])
def test_local_memory_is_seen(arch: str, tmp_path: Path) -> None:
    path = tmp_path / "local.cu"
    path.write_text(LOCAL)
    compiled = compile_file(path, arch)
    code = cubin.kernel_code(compiled.code)
    indexed, spilled = (
        census.row_of(name, Variant(macros=()), compiled.log, disassemble([code[name]], arch)[0])
        for name in ("indexed", "spilled")
    )
    assert indexed.stack_bytes >= 1024
    assert indexed.spill_bytes == 0
    assert indexed.local > 0
    assert spilled.spill_bytes > 0
    assert spilled.local > 0
    assert spilled.registers <= 64


@pytest.mark.nvrtc
@pytest.mark.usefixtures("disassembler", "cache_folder")
def test_kernels_disassembled_together_are_what_they_are_alone(tmp_path: Path) -> None:
    path = tmp_path / "local.cu"
    path.write_text(LOCAL)
    codes = list(cubin.kernel_code(compile_file(path, "sm_80").code).values())
    together = disassemble(codes, "sm_80")

    def facts(instructions: Sequence[Instruction]) -> list[tuple[str, int | None]]:
        return [(row.opcode, row.target) for row in instructions]

    alone = [facts(disassemble([code], "sm_80")[0]) for code in codes]
    assert [facts(instructions) for instructions in together] == alone
    assert any(target is not None for instructions in alone for _, target in instructions)


def test_without_a_disassembler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sass.sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CudaUnavailable, match=r"nvdisasm.*pip install 'edgebench\[cuda-dev\]'"):
        sass.disassembler()


@pytest.mark.slow
@pytest.mark.nvrtc
@pytest.mark.usefixtures("disassembler", "cache_folder")
def test_the_compiler_makes_what_the_table_says() -> None:
    """Every kernel for every architecture, anew; no spill, whatever the compiler is."""
    committed, compiler = census.load()
    taken = census.take()
    assert census.problems(taken) == []
    if compiler != nvrtc_version():
        pytest.skip(
            f"the table was made with NVRTC {compiler}, this is {nvrtc_version()}; "
            "pip install 'edgebench[cuda-dev]'"
        )
    changed = census.differences(committed, taken)
    assert not changed, "\n".join([*changed, f"if that is as it should be: {census.WRITE}"])
