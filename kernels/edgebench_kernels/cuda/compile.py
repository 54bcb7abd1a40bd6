"""Compiles kernels to cubins with NVRTC, through cuda-core; no GPU and no CUDA toolkit is needed.

    python -m pip install 'edgebench[nvidia]'     brings cuda-core and NVRTC

A cubin is kept on disk (`cache`) by the sha256 of the expanded source, the macros, the
architecture, the options and NVRTC's version. Importing this module imports no part of CUDA.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgebench_kernels.cuda import cache, cubin, source
from edgebench_kernels.cuda.architectures import architecture
from edgebench_kernels.cuda.errors import CompileError, CudaUnavailable

INSTALL = "pip install 'edgebench[nvidia]' (on a Jetson: 'edgebench[jetson]')"
SHOWN_LINES = 12
"""Of the compiler's log, from its first error on."""

_FORMAT = 1  # of a cache entry; part of its key
_STD = "c++17"
_PTXAS_OPTIONS = ("-v",)  # registers, stack and spills in the log
_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parent / "csrc"
_INSTALLED = _PACKAGE / "csrc"
_NVRTC_PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cubin:
    """Machine code for one architecture; `log` is what NVRTC and ptxas said."""

    code: bytes
    arch: str
    log: str
    is_from_cache: bool


def source_folder() -> Path:
    """Where the `.cu` files lie: the wheel's, or the checkout's, so that an edit counts at once."""
    for root in (_INSTALLED, _CHECKOUT):
        if (root / "cuda").is_dir():
            return root / "cuda"
    raise CompileError(
        f"[cuda] no kernel sources in {_INSTALLED / 'cuda'} or {_CHECKOUT / 'cuda'}: this "
        "installation is incomplete; install edgebench again"
    )


def compile_file(
    path: Path, arch: str, macros: Mapping[str, int] | None = None, *, where: str = ""
) -> Cubin:
    """The cubin of one `.cu` file, from the cache where it is there.

    `where` names it in errors, by default the file. Raises CompileError with the first lines of the
    compiler's log, or where `arch` is unknown; CudaUnavailable where cuda-core or NVRTC is missing.
    """
    architecture(arch)
    where = where or path.name
    macros = {} if macros is None else macros
    try:
        text = source.expand(path)
    except FileNotFoundError as err:
        raise CompileError(f"[{where}] {err}; quoted includes must lie in csrc/") from err
    key = cache_key(text, arch, macros, nvrtc_version())
    if (entry := cache.read(key)) is not None:
        log, _, code = entry.partition(b"\n")
        return Cubin(code=code, arch=arch, log=json.loads(log), is_from_cache=True)
    code, said = run_nvrtc(text, path.name, arch, macros, where)
    cache.write(key, json.dumps(said).encode() + b"\n" + code)
    return Cubin(code=code, arch=arch, log=said, is_from_cache=False)


def check_instructions(compiled: Cubin, entry: str, expected: Iterable[str], *, where: str) -> None:
    """Raise CompileError unless the kernel `entry` is there and holds each expected operation.

    A body that the preprocessor or the compiler took away leaves a kernel that does nothing, and no
    warning: wgmma under `sm_90` instead of `sm_90a` is the known case.
    """
    found = cubin.kernel_code(compiled.code)
    if entry not in found:
        raise CompileError(
            f"[{where}] expected a kernel {entry} for {compiled.arch}, the code holds "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    counts = cubin.count_operations(found[entry])
    missing = [name for name in expected if not counts[name]]
    if missing:
        raise CompileError(
            f"[{where}] expected {', '.join(missing)} in {entry} for {compiled.arch}, found none: "
            "its body was compiled away or changed; this is our bug, please report it"
        )


def cache_key(text: str, arch: str, macros: Mapping[str, int], version: str) -> str:
    """The sha256 of all that the code depends on."""
    parts = (_FORMAT, text, arch, sorted(macros.items()), version, _STD, _PTXAS_OPTIONS)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def nvrtc_version() -> str:
    """NVRTC's version, with its package's where pip installed it, e.g. `13.0 (13.0.88)`."""
    try:
        from cuda.bindings import nvrtc

        error, major, minor = nvrtc.nvrtcVersion()
    except ImportError as err:
        raise _missing("cuda-core", err) from err
    except RuntimeError as err:  # cuda.pathfinder's DynamicLibNotFoundError is one
        raise _missing("NVRTC", err) from err
    if int(error) != 0:
        raise CudaUnavailable(f"[cuda] NVRTC does not say its version ({error}); {INSTALL}")
    packages = [found for name in _NVRTC_PACKAGES if (found := _installed_version(name))]
    return f"{major}.{minor}" + (f" ({', '.join(packages)})" if packages else "")


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def run_nvrtc(
    text: str, name: str, arch: str, macros: Mapping[str, int], where: str
) -> tuple[bytes, str]:
    """Machine code and log, whatever the cache holds."""
    program_type, options_type = _cuda_core()
    options = options_type(
        name=name,
        arch=arch,
        std=_STD,
        define_macro=[(macro, str(value)) for macro, value in sorted(macros.items())] or None,
        ptxas_options=list(_PTXAS_OPTIONS),
    )
    log = io.StringIO()
    try:
        code = program_type(text, "c++", options=options).compile("cubin", logs=log).code
    except Exception as err:
        if type(err).__name__ != "NVRTCError":
            raise
        raise CompileError(
            f"[{where}] NVRTC {nvrtc_version()} refused it for {arch}:\n{first_error(str(err))}"
        ) from err
    lines = log.getvalue().replace("\0", "").splitlines()
    said = [line for line in lines if "Compile time" not in line]
    return bytes(code), "\n".join(said)  # the same at every compilation


def _cuda_core() -> tuple[Any, Any]:
    try:
        try:
            from cuda.core import Program, ProgramOptions
        except ImportError:  # before 0.5
            from cuda.core.experimental import Program, ProgramOptions
    except ImportError as err:
        raise _missing("cuda-core", err) from err
    except RuntimeError as err:  # before 0.7 without a driver
        raise _missing("a newer cuda-core, which compiles without a driver,", err) from err
    return Program, ProgramOptions


def first_error(log: str) -> str:
    """The first lines of a compiler's log from its first error on."""
    log = log.replace("\0", "").strip()
    lines = log.partition("compilation log:")[2].strip().splitlines() or log.splitlines()
    errors = [i for i, line in enumerate(lines) if re.search(r"\b(error|fatal)\b", line)]
    start = errors[0] if errors else 0
    return "\n".join(lines[start : start + SHOWN_LINES])


def _missing(what: str, err: BaseException) -> CudaUnavailable:
    reason = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
    return CudaUnavailable(f"[cuda] {what} is needed to compile kernels ({reason}); {INSTALL}")
