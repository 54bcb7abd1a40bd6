"""What this machine reaches at best: read bandwidth past the caches and arithmetic peaks.

Each is measured with the pool's own threads and the instruction set in use, so that a kernel's
share of its ceiling compares like with like. Call it several times in a run; take the median.
"""

from __future__ import annotations

import ctypes
import functools
import statistics
import weakref
from dataclasses import dataclass
from pathlib import Path

from edgebench_kernels import native

CEILINGS = ("read_bandwidth", "int8", "bf16", "fp32")  # order = the C door's enum
UNITS = {"read_bandwidth": "bytes/s", "int8": "op/s", "bf16": "op/s", "fp32": "op/s"}
BUDGET_NS = 80_000_000  # of one call: long enough to average, short enough to interleave

_MIB = 1 << 20
_LLC_FACTOR = 4
_SMALLEST_BUFFER = 128 * _MIB
_LARGEST_BUFFER = 1024 * _MIB
_UNKNOWN_LLC = 32 * _MIB
_BUFFER_UNIT = 2 * _MIB
_MEASURED_FROM = 256 * _MIB
_NEAR = 1.1
_CACHE_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingSample:
    """One measurement. value: bytes/s for read_bandwidth, else op/s (multiply + add = 2)."""

    ceiling: str
    instruction: str
    threads: int
    value: float


def measure(ceiling: str, threads: int | None = None) -> CeilingSample:
    """Measure one ceiling for about 0.1 s with `threads` threads (default: the pool's).

    Raises `native.Unavailable` with the reason where the machine has no such instruction.
    """
    if ceiling not in CEILINGS:
        raise ValueError(f"[ceilings] must be one of {', '.join(CEILINGS)}, got '{ceiling}'")
    buffer = _read_buffer() if ceiling == "read_bandwidth" else None
    return _measure(ceiling, native.threads() if threads is None else threads, buffer)


def bytes_past_cache() -> int:
    """Bytes that must be rotated so that none is read from a cache: 4 last-level caches, or less.

    A virtual machine sees the whole cache of a socket whose other tenants share it. Where four
    times that is more than 256 MiB, the smallest power of two from there on counts whose read
    bandwidth is that of 1 GiB, give or take a tenth: measured, in half a second.
    """
    declared = _LLC_FACTOR * (last_level_cache_bytes() or _UNKNOWN_LLC)
    if declared <= _MEASURED_FROM:
        return declared
    far = _median_bandwidth(_LARGEST_BUFFER)
    size = _MEASURED_FROM
    while size < min(declared, _LARGEST_BUFFER) and _median_bandwidth(size) > far * _NEAR:
        size *= 2
    return min(size, declared)


def _median_bandwidth(size: int) -> float:
    buffer = _ReadBuffer(size)
    samples = [_measure("read_bandwidth", native.threads(), buffer).value for _ in range(3)]
    return statistics.median(samples)


def _measure(ceiling: str, wanted: int, buffer: _ReadBuffer | None) -> CeilingSample:
    before = native.threads()
    native.set_threads(wanted)
    try:
        value, instruction = ctypes.c_double(), ctypes.c_char_p()
        error = native.library().eb_ceiling(
            CEILINGS.index(ceiling),
            None if buffer is None else buffer.handle,
            BUDGET_NS,
            ctypes.byref(value),
            ctypes.byref(instruction),
        )
    finally:
        native.set_threads(before)
    native.check(error, "ceilings", f"no {ceiling} instruction with {native.isa()} kernels")
    name = (instruction.value or b"").decode()
    return CeilingSample(ceiling=ceiling, instruction=name, threads=wanted, value=value.value)


def last_level_cache_bytes() -> int | None:
    """Size of the largest cache that CPU 0 sees, or None where the system does not say."""
    sizes = [_parse_size(path.read_text()) for path in _CACHE_FOLDER.glob("index*/size")]
    return max(sizes, default=0) or None


def buffer_bytes() -> int:
    """Bytes of the buffer that read_bandwidth streams: 4 last-level caches, 128 MiB..1 GiB."""
    wanted = _LLC_FACTOR * (last_level_cache_bytes() or _UNKNOWN_LLC)
    rounded = -(-wanted // _BUFFER_UNIT) * _BUFFER_UNIT
    return min(_LARGEST_BUFFER, max(_SMALLEST_BUFFER, rounded))


def release() -> None:
    """Give the buffer kept between calls back to the system."""
    _read_buffer.cache_clear()


class _ReadBuffer:
    """Owns a buffer of the library, touched and on huge pages where they are granted."""

    def __init__(self, size: int) -> None:
        library = native.library()
        handle = ctypes.c_void_p()
        error = library.eb_ceiling_buffer(size, ctypes.byref(handle))
        native.check(error, "ceilings", f"read buffer of {size} bytes")
        self.handle = int(handle.value or 0)
        weakref.finalize(self, library.eb_ceiling_buffer_free, self.handle).atexit = False


@functools.lru_cache(maxsize=1)
def _read_buffer() -> _ReadBuffer:
    return _ReadBuffer(buffer_bytes())


def _parse_size(text: str) -> int:
    """'32768K' -> bytes; 0 for what is no size."""
    text = text.strip().upper()
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * unit if digits.isdigit() else 0
