"""Kernels are compiled for every architecture, kept, found again, and refused in words."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from edgebench_kernels.cuda import cache, cubin
from edgebench_kernels.cuda import compile as nvrtc
from edgebench_kernels.cuda.architectures import ARCHITECTURES, architecture_of
from edgebench_kernels.cuda.compile import check_instructions, compile_file
from edgebench_kernels.cuda.errors import CompileError, CudaUnavailable

HEADER = """
#ifndef SCALE_CUH_
#define SCALE_CUH_
__device__ float scaled(float x) { return x * FACTOR; }
#endif
"""
KERNEL = """
#include "scale.cuh"
#include "scale.cuh"
extern "C" __global__ void scale(float* x) { x[threadIdx.x] = scaled(x[threadIdx.x]); }
extern "C" __global__ void other(float* x) { x[0] = 1; }
"""
# Guarded as a kernel with wgmma is: where the guard is false, its body is empty.
TENSOR = """
extern "C" __global__ void tensor(float* out, const unsigned* in, unsigned long long descriptor) {
  float c[4] = {0, 0, 0, 0};
#if defined(WGMMA) && defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;");
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, 1, 1, 1, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(in[0]), "r"(in[1]), "r"(in[2]), "r"(in[3]), "l"(descriptor));
  asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");
#elif !defined(WGMMA)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(in[0]), "r"(in[1]), "r"(in[2]), "r"(in[3]), "r"(in[4]), "r"(in[5]));
#endif
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = c[i];
}
"""
FACTOR = {"FACTOR": 3}


@pytest.fixture
def scale(tmp_path: Path, cache_folder: Path) -> Path:
    """A kernel of two files, and an empty cache."""
    (tmp_path / "scale.cuh").write_text(HEADER)
    path = tmp_path / "scale.cu"
    path.write_text(KERNEL)
    return path


@pytest.fixture
def tensor(tmp_path: Path, cache_folder: Path) -> Path:
    """A kernel for tensor cores, and an empty cache."""
    path = tmp_path / "tensor.cu"
    path.write_text(TENSOR)
    return path


def entries(folder: Path) -> list[Path]:
    """All files of a cache."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------------ code


@pytest.mark.nvrtc
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_compiles(arch: str, tensor: Path) -> None:
    compiled = compile_file(tensor, arch)
    code = cubin.kernel_code(compiled.code)
    assert list(code) == ["tensor"]
    assert cubin.count_operations(code["tensor"])["HMMA"] == 1
    assert f"'tensor' for '{arch}'" in compiled.log
    check_instructions(compiled, "tensor", ["HMMA"], where="tensor")


@pytest.mark.nvrtc
def test_a_file_may_hold_several_kernels(scale: Path) -> None:
    compiled = compile_file(scale, "sm_80", FACTOR)
    assert sorted(cubin.kernel_code(compiled.code)) == ["other", "scale"]


@pytest.mark.nvrtc
def test_wgmma_is_found_where_it_is_compiled(tensor: Path) -> None:
    compiled = compile_file(tensor, "sm_90a", {"WGMMA": 1})
    check_instructions(compiled, "tensor", ["HGMMA"], where="tensor")


@pytest.mark.nvrtc
@pytest.mark.parametrize("arch", ["sm_87", "sm_90a"])
def test_a_body_that_was_compiled_away_is_an_error(arch: str, tensor: Path) -> None:
    """On sm_90a a macro leaves wgmma out; elsewhere the architecture does."""
    macros = {"WGMMA": 1} if arch == "sm_87" else {}
    compiled = compile_file(tensor, arch, macros)  # NVRTC does not say a word
    with pytest.raises(CompileError, match=rf"\[tensor\] expected HGMMA in tensor for {arch}"):
        check_instructions(compiled, "tensor", ["HGMMA"], where="tensor")


@pytest.mark.nvrtc
def test_plain_sm_90_makes_the_empty_kernel_and_is_refused(tensor: Path) -> None:
    code, said = nvrtc.run_nvrtc(TENSOR, "tensor.cu", "sm_90", {"WGMMA": 1}, "tensor")
    (instructions,) = cubin.kernel_code(code).values()
    assert not cubin.count_operations(instructions)["HGMMA"]
    assert "warning" not in said
    with pytest.raises(CompileError, match=r"out of sm_80, .*sm_90a, got 'sm_90'"):
        compile_file(tensor, "sm_90", {"WGMMA": 1})


@pytest.mark.nvrtc
def test_a_kernel_that_is_not_there(scale: Path) -> None:
    compiled = compile_file(scale, "sm_80", FACTOR)
    with pytest.raises(CompileError, match=r"expected a kernel scaled for sm_80.*other, scale"):
        check_instructions(compiled, "scaled", [], where="scale")


@pytest.mark.parametrize("code", [b"", b"\x7fELF", b"\x7fELF\x02" + bytes(59), b"no cubin" * 20])
def test_what_is_no_cubin(code: bytes) -> None:
    with pytest.raises(CompileError, match="no cubin"):
        cubin.kernel_code(code)


# ----------------------------------------------------------------------------------------- cache


@pytest.mark.nvrtc
def test_the_second_time_comes_from_the_cache(scale: Path, cache_folder: Path) -> None:
    first = compile_file(scale, "sm_86", FACTOR)
    second = compile_file(scale, "sm_86", FACTOR)
    assert (first.is_from_cache, second.is_from_cache) == (False, True)
    assert (first.code, first.log) == (second.code, second.log)
    assert len(entries(cache_folder)) == 1


@pytest.mark.nvrtc
def test_whatever_the_code_depends_on_makes_another_entry(
    scale: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_file(scale, "sm_80", FACTOR)
    compile_file(scale, "sm_86", FACTOR)
    compile_file(scale, "sm_80", {"FACTOR": 4})
    compile_file(scale, "sm_80", {"FACTOR": 3, "UNUSED": 1})
    scale.write_text(KERNEL + "// edited\n")
    compile_file(scale, "sm_80", FACTOR)
    (scale.parent / "scale.cuh").write_text(HEADER.replace("x * FACTOR", "FACTOR + x"))
    compile_file(scale, "sm_80", FACTOR)
    monkeypatch.setattr(nvrtc, "nvrtc_version", lambda: "99.0")
    assert not compile_file(scale, "sm_80", FACTOR).is_from_cache
    assert len(entries(cache_folder)) == 7


@pytest.mark.nvrtc
@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "longer"])
def test_a_damaged_entry_is_compiled_again(damage: str, scale: Path, cache_folder: Path) -> None:
    good = compile_file(scale, "sm_80", FACTOR)
    (entry,) = entries(cache_folder)
    content = entry.read_bytes()
    middle = len(content) // 2
    entry.write_bytes(
        {
            "empty": b"",
            "truncated": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "longer": content + b"\0",
        }[damage]
    )
    again = compile_file(scale, "sm_80", FACTOR)
    assert not again.is_from_cache
    assert again.code == good.code
    assert entry.read_bytes() == content


@pytest.mark.nvrtc
def test_processes_may_compile_the_same_at_once(scale: Path, cache_folder: Path) -> None:
    code = (
        "import hashlib, sys, pathlib\n"
        "from edgebench_kernels.cuda.compile import compile_file\n"
        "sys.stdin.readline()\n"
        f"code = compile_file(pathlib.Path({str(scale)!r}), 'sm_80', {FACTOR!r}).code\n"
        "print(hashlib.sha256(code).hexdigest())\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(3)]
    for one in running:  # all have imported what they need, or are about to
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = {one.communicate(timeout=120)[0] for one in running}
    assert [one.returncode for one in running] == [0, 0, 0]
    assert len(said) == 1
    assert len(entries(cache_folder)) == 1  # and no partial one


def test_a_reader_sees_a_whole_entry_or_none(cache_folder: Path) -> None:
    """While other processes write it over and over."""
    code = (
        "import sys\n"
        "from edgebench_kernels.cuda import cache\n"
        "for i in range(300):\n"
        "    cache.write('ab' * 32, bytes([i % 256]) * 100_000)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    contents = set()
    while any(writer.poll() is None for writer in writers):
        content = cache.read("ab" * 32)
        contents.add(None if content is None else (content[:1], len(content), len(set(content))))
    assert [writer.returncode for writer in writers] == [0, 0]
    whole = {content for content in contents if content is not None}
    assert whole
    assert {content[1:] for content in whole} == {(100_000, 1)}
    assert len(entries(cache_folder)) == 1


def test_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", "/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == Path("/named/cubins")
    monkeypatch.delenv("EDGEBENCH_CACHE")
    assert cache.cache_folder() == Path("/xdg/edgebench/cubins")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert cache.cache_folder() == tmp_path / ".cache/edgebench/cubins"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == tmp_path / ".cache/edgebench/cubins"


def test_a_cache_that_cannot_be_written_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be written .*; set EDGEBENCH_CACHE"):
        cache.write("ab" * 32, b"content")
    assert cache.read("ab" * 32) is None


# ---------------------------------------------------------------------------------------- errors


@pytest.fixture
def no_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.core", "cuda.bindings", "cuda.core.experimental"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("no_cuda_core")
def test_without_cuda_core(scale: Path) -> None:
    with pytest.raises(CudaUnavailable, match=r"cuda-core is needed.*pip install 'edgebench\["):
        compile_file(scale, "sm_80", FACTOR)


def fake_bindings(monkeypatch: pytest.MonkeyPatch, version: object) -> None:
    """`cuda.bindings.nvrtc`, with one function."""
    module = types.ModuleType("cuda.bindings.nvrtc")
    module.nvrtcVersion = version  # type: ignore[attr-defined]
    package = types.ModuleType("cuda.bindings")
    package.nvrtc = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", module)


def test_without_nvrtc(scale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:  # cuda.pathfinder's DynamicLibNotFoundError is a RuntimeError
        raise RuntimeError("Failure finding libnvrtc.so\nlong story")

    fake_bindings(monkeypatch, missing)
    with pytest.raises(CudaUnavailable) as caught:
        compile_file(scale, "sm_80", FACTOR)
    assert "NVRTC is needed to compile kernels (Failure finding libnvrtc.so)" in str(caught.value)
    assert "pip install 'edgebench[nvidia]'" in str(caught.value)


def test_a_cuda_core_that_needs_a_driver(scale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 0.7, importing it without libcuda fails."""

    class Core(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            raise RuntimeError('"cuda" can only be found via system search')

    fake_bindings(monkeypatch, lambda: (0, 13, 0))
    monkeypatch.setitem(sys.modules, "cuda.core", Core("cuda.core"))
    with pytest.raises(CudaUnavailable, match=r"a newer cuda-core.*system search.*pip install"):
        compile_file(scale, "sm_80", FACTOR)


@pytest.mark.nvrtc
def test_nvrtc_that_the_loader_cannot_find(house_environment: dict[str, str]) -> None:
    """cuda-core is there and the library is not: what cuda-bindings then raises is understood."""
    code = (
        "from cuda import pathfinder\n"
        "def fail(name): raise pathfinder.DynamicLibNotFoundError(f'no {name} anywhere')\n"
        "pathfinder.load_nvidia_dynamic_lib = fail\n"
        "from edgebench_kernels.cuda.compile import nvrtc_version\n"
        "nvrtc_version()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=house_environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "CudaUnavailable: [cuda] NVRTC is needed to compile kernels (no nvrtc anywhere)" in last


@pytest.mark.nvrtc
def test_an_error_names_file_and_line(scale: Path) -> None:
    (scale.parent / "scale.cuh").write_text(HEADER.replace("FACTOR;", "FACTOR + missing;"))
    with pytest.raises(CompileError) as caught:
        compile_file(scale, "sm_80", FACTOR)
    first, second, *rest = str(caught.value).splitlines()
    assert first.startswith("[scale.cu] NVRTC ")
    assert first.endswith("refused it for sm_80:")
    assert second == 'scale.cuh(4): error: identifier "missing" is undefined'
    assert "x * FACTOR + missing" in rest[0]
    assert len(rest) < nvrtc.SHOWN_LINES


@pytest.mark.nvrtc
def test_an_error_of_the_assembler(scale: Path) -> None:
    scale.write_text('extern "C" __global__ void k() { asm volatile("bogus.op;"); }\n')
    with pytest.raises(CompileError, match="Not a name of any known instruction: 'bogus'"):
        compile_file(scale, "sm_80")


@pytest.mark.nvrtc
def test_nothing_is_kept_of_what_was_refused(scale: Path, cache_folder: Path) -> None:
    scale.write_text("what")
    with pytest.raises(CompileError):
        compile_file(scale, "sm_80")
    assert entries(cache_folder) == []


def test_an_unknown_architecture(scale: Path) -> None:
    with pytest.raises(CompileError, match=r"sm_80, sm_86, sm_87, sm_89, sm_90a, got 'sm_75'"):
        compile_file(scale, "sm_75", FACTOR)


def test_an_include_that_is_not_there(scale: Path) -> None:
    (scale.parent / "scale.cuh").unlink()
    with pytest.raises(CompileError, match=r"scale\.cu:2 includes scale\.cuh, not found"):
        compile_file(scale, "sm_80", FACTOR)


def test_capabilities_and_architectures() -> None:
    assert architecture_of((8, 7), "Orin") == "sm_87"
    assert architecture_of((9, 0), "NVIDIA H200") == "sm_90a"
    with pytest.raises(CudaUnavailable, match=r"8\.7 \(Jetson Orin\).*; Tesla T4 has 7\.5"):
        architecture_of((7, 5), "Tesla T4")


def test_the_first_error_of_a_log() -> None:
    log = "6: NVRTC_ERROR, compilation log:\n\nptxas info : x\nptxas error : bad\nmore\n"
    assert nvrtc.first_error(log) == "ptxas error : bad\nmore"
    assert nvrtc.first_error("no such thing \0") == "no such thing"
    many = "compilation log:\n" + "\n".join(f"error {i}" for i in range(99))
    assert len(nvrtc.first_error(many).splitlines()) == nvrtc.SHOWN_LINES


# --------------------------------------------------------------------------------------- sources


def test_the_checkout_is_read_from_the_checkout(root: Path) -> None:
    assert nvrtc.source_folder() == root / "kernels" / "csrc" / "cuda"


def test_an_installation_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_CHECKOUT", tmp_path / "a")
    monkeypatch.setattr(nvrtc, "_INSTALLED", tmp_path / "b")
    with pytest.raises(CompileError, match=r"no kernel sources in .*install edgebench again"):
        nvrtc.source_folder()


@pytest.mark.parametrize("module", ["census", "compile", "driver", "driver_calls", "kernels"])
def test_importing_needs_neither_torch_nor_cuda(
    module: str, house_environment: dict[str, str]
) -> None:
    code = (
        f"import edgebench_kernels.cuda.{module}, json, sys\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=house_environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not {"torch", "cuda", "pynvml"} & set(json.loads(done.stdout))
