"""The native library: found, loaded once, its ISA and threads chosen, its errors put in words.

Environment, read when the library is first used:
    EDGEBENCH_KERNELS_LIBRARY  path of the library, instead of the one in the package
    EDGEBENCH_ISA              scalar, avx2, avx2_vnni, avx512_vnni, amx_int8, neon, neon_dotprod
                               or neon_i8mm
                               instead of the best one
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import edgebench_kernels

LIBRARY_NAME = "libedgebench_kernels.so"
LIBRARY_VARIABLE = "EDGEBENCH_KERNELS_LIBRARY"
ISA_VARIABLE = "EDGEBENCH_ISA"
MAX_THREADS = 256
FAMILIES = {"w4a8": 0, "w4a16": 1}
"""The library's number of each path."""

_ABI_VERSION = 7

OK, NULL, SHAPE, GROUP, ISA, THREADS, MEMORY, UNAVAILABLE, SCALE, ZERO, INTERNAL = range(11)
TOKEN, COLUMN, NOT_FINITE, AFFINITY, ALIGNMENT, PATTERN = range(11, 17)
_ERROR_TEXTS = {
    NULL: "a pointer is null",
    SHAPE: "a size is out of range",
    GROUP: "group must be 32, 64, 128 or K, and divide K",
    ISA: "this machine lacks that instruction set",
    THREADS: "a thread could not be started",
    MEMORY: "out of memory",
    UNAVAILABLE: "this machine has no such instruction",
    SCALE: "scale must be finite, got NaN or infinity",
    ZERO: "zero points must be 0..15",
    AFFINITY: "this process may not use such a CPU",
    ALIGNMENT: "an array must start at a multiple of its items' size; pass a copy",
    PATTERN: "2:4 weights must have at most two that are not zero in every four inputs of a row",
    INTERNAL: "internal error: please report it",
    TOKEN: "a token id is outside the vocabulary",
    COLUMN: "the column must be inside the cache, and no row may start after it",
    NOT_FINITE: "a row's largest value is infinite or NaN",
}

_POINTER = ctypes.c_void_p
_I64 = ctypes.c_int64
_SIGNATURES: dict[str, tuple[list[object], object]] = {
    "eb_abi_version": ([], ctypes.c_int),
    "eb_isa_name": ([ctypes.c_int], ctypes.c_char_p),
    "eb_isa_supported": ([ctypes.c_int], ctypes.c_int),
    "eb_isa": ([], ctypes.c_char_p),
    "eb_force_isa": ([ctypes.c_int], ctypes.c_int),
    "eb_prefetch": ([], ctypes.c_int),
    "eb_set_prefetch": ([ctypes.c_int], ctypes.c_int),
    "eb_few_tokens": ([ctypes.c_int], ctypes.c_int),
    "eb_set_few_tokens": ([ctypes.c_int, ctypes.c_int], ctypes.c_int),
    "eb_set_affinity": ([_POINTER, ctypes.c_int], ctypes.c_int),
    "eb_pool_wakeup": ([_POINTER], ctypes.c_int),
    "eb_set_threads": ([ctypes.c_int], ctypes.c_int),
    "eb_threads": ([], ctypes.c_int),
    "eb_w4_pack": ([_POINTER, _POINTER, _POINTER, _I64, _I64, _I64, _POINTER], ctypes.c_int),
    "eb_w4_pack_sparse": (
        [_POINTER, _POINTER, _POINTER, _I64, _I64, _I64, _POINTER, _POINTER],
        ctypes.c_int,
    ),
    "eb_w4_free": ([_POINTER], None),
    "eb_w4_bytes": ([_POINTER, _POINTER, _POINTER], ctypes.c_int),
    "eb_w4_dequantize": ([_POINTER, ctypes.c_int, _POINTER], ctypes.c_int),
    "eb_w4a16_linear": ([_POINTER, _I64, _POINTER, _POINTER], ctypes.c_int),
    "eb_w4a8_linear": ([_POINTER, _I64, _POINTER, _POINTER], ctypes.c_int),
    "eb_w4a8_token_linear": ([_POINTER, _I64, _POINTER, _POINTER], ctypes.c_int),
    "eb_w4_layer": (
        [
            *(_POINTER, ctypes.c_int, ctypes.c_int, _POINTER, ctypes.c_float, ctypes.c_float),
            *(_I64, _POINTER, _POINTER),
        ],
        ctypes.c_int,
    ),
    "eb_add_norm": (
        [ctypes.c_int, _I64, _I64, _POINTER, _POINTER, _POINTER, ctypes.c_float, _POINTER],
        ctypes.c_int,
    ),
    "eb_swiglu": ([ctypes.c_int, _I64, _I64, _POINTER, _POINTER], ctypes.c_int),
    "eb_argmax": ([_I64, _I64, _POINTER, _POINTER], ctypes.c_int),
    "eb_attention": (
        [ctypes.c_int, _POINTER, _I64, _I64, _I64, *(_POINTER, _POINTER, _POINTER, _POINTER)],
        ctypes.c_int,
    ),
    "eb_decoder_new": ([_POINTER, _POINTER], ctypes.c_int),
    "eb_decoder_free": ([_POINTER], None),
    "eb_decoder_step": (
        [
            *(_POINTER, ctypes.c_int, ctypes.c_int, _I64, _I64, _POINTER, _POINTER, _POINTER),
            *(ctypes.c_int, _POINTER, _POINTER),
        ],
        ctypes.c_int,
    ),
    "eb_ceiling_buffer": ([ctypes.c_size_t, _POINTER], ctypes.c_int),
    "eb_ceiling_buffer_free": ([_POINTER], None),
    "eb_ceiling": ([ctypes.c_int, _POINTER, _I64, _POINTER, _POINTER], ctypes.c_int),
}


class NativeLibraryMissing(ImportError):
    """The compiled library is not there or is not ours; the text names the fix."""


class Unavailable(RuntimeError):
    """This machine cannot do what was asked; the text says why."""


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The loaded library with typed doors; the first call applies EDGEBENCH_ISA and all CPUs."""
    path = library_path()
    try:
        loaded = ctypes.CDLL(str(path))
        _declare(loaded)
    except (OSError, AttributeError) as err:
        raise NativeLibraryMissing(
            f"[native] {path} cannot be used: {err}; build it again: pip install -e ."
        ) from err
    version = loaded.eb_abi_version()
    if version != _ABI_VERSION:
        raise NativeLibraryMissing(
            f"[native] {path} has version {version} of the C interface, this package needs "
            f"{_ABI_VERSION}; build it again: pip install -e ."
        )
    forced = os.environ.get(ISA_VARIABLE)
    if forced:
        _force_isa(loaded, forced, where=ISA_VARIABLE)
    check(loaded.eb_set_threads(default_threads()), "native")
    return loaded


def library_path() -> Path:
    """Where the library lies; NativeLibraryMissing, with the fix, where it does not."""
    override = os.environ.get(LIBRARY_VARIABLE)
    if override:
        if not Path(override).is_file():
            raise NativeLibraryMissing(f"[native] {LIBRARY_VARIABLE}={override} is not a file")
        return Path(override)
    for folder in edgebench_kernels.__path__:
        candidate = Path(folder) / LIBRARY_NAME
        if candidate.is_file():
            return candidate
    raise NativeLibraryMissing(
        f"[native] {LIBRARY_NAME} is not in {', '.join(edgebench_kernels.__path__)}; build it "
        "with: pip install -e . (needs a C++17 compiler, Debian/Ubuntu package g++), or set "
        f"{LIBRARY_VARIABLE} to a built one"
    )


def is_available() -> bool:
    """True when the library can be loaded."""
    try:
        library()
    except NativeLibraryMissing:
        return False
    return True


def isa() -> str:
    """The instruction set in use, by its name in the library's table."""
    return str(library().eb_isa().decode())


def supported_isas() -> tuple[str, ...]:
    """The instruction sets that this library has and this machine supports, lowest first."""
    return tuple(name for name, is_supported in _isas(library()).items() if is_supported)


def force_isa(name: str) -> None:
    """Use another instruction set from now on, in the whole process: for tests and perf scripts."""
    _force_isa(library(), name, where="native")


def prefetch_bytes() -> int:
    """How far ahead streaming kernels prefetch, in bytes; the default is the CPU's best."""
    return int(library().eb_prefetch())


def set_prefetch_bytes(size_bytes: int) -> None:
    """Prefetch another distance from now on (0: not at all): for perf scripts."""
    if not 0 <= size_bytes <= 1 << 20:
        raise ValueError(f"[native] prefetch must be 0..1048576 bytes, got {size_bytes}")
    check(library().eb_set_prefetch(size_bytes), "native")


def few_tokens(path: str) -> int:
    """The most tokens that `path` (w4a8 or w4a16) runs straight from the nibbles."""
    return int(library().eb_few_tokens(FAMILIES[path]))


def set_few_tokens(path: str, tokens: int) -> None:
    """Lower it from now on (1: one token only); never above what the instruction set has."""
    if tokens < 1:
        raise ValueError(f"[native] tokens must be 1 or more, got {tokens}")
    check(library().eb_set_few_tokens(FAMILIES[path], tokens), "native")


def usable_cpus() -> tuple[int, ...]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def default_threads() -> int:
    """As many as the CPUs that this process may use."""
    return min(MAX_THREADS, len(usable_cpus()))


def set_threads(threads: int) -> None:
    """Threads of the pool, the caller included; 1..256. They start when first needed."""
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"[native] threads must be 1..{MAX_THREADS}, got {threads}")
    check(library().eb_set_threads(threads), "native")


def threads() -> int:
    """Threads of the pool, the caller included."""
    return int(library().eb_threads())


def set_affinity(cpus: Sequence[int]) -> None:
    """Keep the pool's worker i on cpus[i % len(cpus)] from now on; empty: anywhere.

    The calling thread stays where its process lets it run (`os.sched_setaffinity`).
    """
    check(
        library().eb_set_affinity((ctypes.c_int * len(cpus))(*cpus), len(cpus)),
        "native",
        f"got CPUs {', '.join(map(str, cpus))} of {', '.join(map(str, usable_cpus()))}",
    )


def pool_wakeup_ns() -> int:
    """The time from a call until all threads of the pool have begun to work on it."""
    latency_ns = ctypes.c_int64()
    check(library().eb_pool_wakeup(ctypes.byref(latency_ns)), "native")
    return latency_ns.value


def check(error: int, where: str, context: str = "") -> None:
    """Raise what a door's return value stands for; `context` says what came."""
    if error == OK:
        return
    text = f"[{where}] {_ERROR_TEXTS.get(error, f'unknown error {error}')}"
    if context:
        text = f"{text}; {context}"
    if error == MEMORY:
        raise MemoryError(text)
    if error == UNAVAILABLE:
        raise Unavailable(text)
    if error == NOT_FINITE:
        raise FloatingPointError(text)
    if error in (THREADS, INTERNAL):
        raise RuntimeError(text)
    raise ValueError(text)


def _isas(loaded: ctypes.CDLL) -> dict[str, bool]:
    """Every ISA of the library -> whether this machine supports it, lowest first."""
    found: dict[str, bool] = {}
    while (name := loaded.eb_isa_name(len(found))) is not None:
        found[name.decode()] = bool(loaded.eb_isa_supported(len(found)))
    return found


def _force_isa(loaded: ctypes.CDLL, name: str, *, where: str) -> None:
    known = _isas(loaded)
    usable = ", ".join(isa_name for isa_name, is_supported in known.items() if is_supported)
    if name not in known:
        raise ValueError(
            f"[{where}] unknown instruction set '{name}'; this library has {', '.join(known)}, "
            f"of which this machine supports {usable}"
        )
    if not known[name]:
        raise ValueError(
            f"[{where}] this machine lacks instruction set '{name}'; it supports {usable}"
        )
    check(loaded.eb_force_isa(list(known).index(name)), where)


def _declare(loaded: ctypes.CDLL) -> None:
    for name, (arguments, result) in _SIGNATURES.items():
        door = getattr(loaded, name)
        door.argtypes = arguments
        door.restype = result
