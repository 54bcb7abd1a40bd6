"""What is measured once on a machine so that the kernels run as fast as they can there.

    python -m edgebench_kernels.tuning [--threads 2] [--isa avx2]     measures and prints JSON

Two choices depend on the CPU and are not to be guessed: how far ahead a streaming kernel should
prefetch, and up to how many tokens it pays to compute straight from the nibbles rather than to
unpack a group first. Neither changes what is computed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels import ceilings, native
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.packing import PackedInt4, linear

Key = TypeVar("Key")

INPUTS = 4096
GROUP = 128
PREFETCHES_BYTES = (0, 1024, 2048, 4096, 8192, 16384)
TOKENS = (2, 3, 4, 6, 8, 10, 12)
ROUNDS = 5
LARGEST_BYTES = 256 << 20
"""Of the weights streamed at one token, where four times the last-level cache is more."""
CROSSOVER_OUTPUTS = 4096
MARGIN = 0.02
"""A rival must be this much faster than the default: less is noise."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `measure` chose, and what each rival took (medians)."""

    isa: str
    threads: int
    prefetch_bytes: int
    few_tokens: dict[str, int]
    """By path: the most tokens computed straight from the nibbles."""
    prefetch_ns: dict[int, float]
    crossover_ns: dict[str, dict[int, tuple[float, float]]]
    """By path and tokens: from the nibbles, and with unpacking."""


def measure() -> Tuning:
    """Time the rivals with the instruction set and threads in use; two or three seconds.

    Changes the library's settings while it runs and leaves those it chose.
    """
    default = native.prefetch_bytes()
    prefetch_ns = _prefetch_times()
    native.set_prefetch_bytes(choose_prefetch(prefetch_ns, default))
    crossover_ns = {path: _crossover_times(path) for path in native.FAMILIES}
    few = {path: choose_few(times) for path, times in crossover_ns.items()}
    for path, tokens in few.items():
        native.set_few_tokens(path, tokens)
    return Tuning(
        isa=native.isa(),
        threads=native.threads(),
        prefetch_bytes=native.prefetch_bytes(),
        few_tokens=few,
        prefetch_ns=prefetch_ns,
        crossover_ns=crossover_ns,
    )


def choose_prefetch(times_ns: dict[int, float], default: int) -> int:
    """The fastest distance; the CPU's default unless one is faster by the margin."""
    fastest = min(times_ns, key=times_ns.__getitem__)
    usual = times_ns.get(default)
    return default if usual is not None and usual <= times_ns[fastest] * (1 + MARGIN) else fastest


def choose_few(times_ns: dict[int, tuple[float, float]]) -> int:
    """The most tokens up to which computing from the nibbles is never slower by the margin."""
    most = 1
    for tokens, (nibbles, unpacked) in sorted(times_ns.items()):
        if nibbles > unpacked * (1 + MARGIN):
            break
        most = tokens
    return most


def _prefetch_times() -> dict[int, float]:
    wanted = min(LARGEST_BYTES, 4 * (ceilings.last_level_cache_bytes() or 32 << 20))
    weights = _weights(max(64, wanted * 2 // INPUTS // 64 * 64))
    x = _inputs(1)

    def stream(distance: int) -> Callable[[], None]:
        def run() -> None:
            native.set_prefetch_bytes(distance)
            linear(weights, x, "w4a16")

        return run

    return _medians({distance: stream(distance) for distance in PREFETCHES_BYTES})


def _crossover_times(path: str) -> dict[int, tuple[float, float]]:
    weights = _weights(CROSSOVER_OUTPUTS)
    native.set_few_tokens(path, TOKENS[-1])
    most = native.few_tokens(path)  # what the instruction set's kernel takes
    rivals: dict[tuple[int, int], Callable[[], None]] = {}

    def run_with(few: int, x: NDArray[np.float32]) -> Callable[[], None]:
        def run() -> None:
            native.set_few_tokens(path, few)
            linear(weights, x, path)

        return run

    tried = [tokens for tokens in TOKENS if tokens <= most]
    for tokens in tried:
        x = _inputs(tokens)
        for few in (most, 1):
            rivals[tokens, few] = run_with(few, x)
    medians = _medians(rivals)
    return {tokens: (medians[tokens, most], medians[tokens, 1]) for tokens in tried}


def _weights(outputs: int) -> PackedInt4:
    """Any codes will do: no kernel's time depends on them."""
    random = np.random.default_rng(outputs)
    codes = random.integers(0, 256, (outputs, INPUTS // 2), np.uint8)
    groups = INPUTS // GROUP
    return PackedInt4(
        Int4Tensor(
            qweight=codes,
            scale=np.full((outputs, groups), 0.01, np.float16),
            zero=np.full((outputs, groups), 8, np.uint8),
            group=GROUP,
        )
    )


def _inputs(tokens: int) -> NDArray[np.float32]:
    return np.random.default_rng(tokens).standard_normal((tokens, INPUTS), np.float32)


def _medians(rivals: dict[Key, Callable[[], None]]) -> dict[Key, float]:
    """Interleaved, one warm-up each."""
    times_ns: dict[Key, list[float]] = {key: [] for key in rivals}
    for run in rivals.values():
        run()
    for _ in range(ROUNDS):
        for key, run in rivals.items():
            begin = time.perf_counter_ns()
            run()
            times_ns[key].append(time.perf_counter_ns() - begin)
    return {key: statistics.median(times) for key, times in times_ns.items()}


def main() -> None:
    """Measure with the threads asked for, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--isa")
    arguments = parser.parse_args()
    if arguments.isa is not None:
        native.force_isa(arguments.isa)
    if arguments.threads is not None:
        native.set_threads(arguments.threads)
    print(json.dumps(asdict(measure()), indent=2))


if __name__ == "__main__":
    main()
