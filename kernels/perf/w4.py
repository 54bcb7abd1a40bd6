"""Times the INT4 linears of one instruction set: checked, then measured, beside a peak.

    python kernels/perf/w4.py [--shape N,K] [--m 1,4,16] [--isa avx2] [--threads 2] [--rounds 15]

Each variant (path x M) is held against its float64 twin before it is timed. The variants of a shape
then run in a new random order each round, on weights rotated past the last-level cache, with the
read-bandwidth and int8 ceilings measured in every round. The shares are medians of each round's own
ratio; over 1.00 of bandwidth means weights from a cache or a ceiling disturbed by other load.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgebench_kernels import ceilings, native, reference
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.packing import LINEAR_DOORS, PackedInt4, linear

SHAPES = ((2048, 2048), (8192, 2048), (4096, 4096))
TOKENS = (1, 2, 4, 16, 64, 256)
CHECKED_ROWS = 256  # of N: enough to cross blocks, few enough for float64
LARGEST_DIFFERENCE = 1e-5  # relative, kernel against twin: float32 sums
SHORTEST_SAMPLE_NS = 2_000_000


@dataclass(slots=True)
class Variant:
    """One path at one number of tokens, with what its rounds measured."""

    path: str
    m: int
    x: np.ndarray
    y: np.ndarray
    times_ns: list[float] = field(default_factory=list)
    of_bandwidth: list[float] = field(default_factory=list)
    of_int8: list[float] = field(default_factory=list)


def main() -> None:
    """Parse, measure each shape, print one table."""
    arguments = parse()
    if arguments.isa:
        native.force_isa(arguments.isa)
    if arguments.threads:
        native.set_threads(arguments.threads)
    print(
        f"isa {native.isa()}, {native.threads()} threads, "
        f"prefetch {native.prefetch_bytes()} bytes, n = {arguments.rounds} rounds, "
        f"load average {os.getloadavg()[0]:.2f}"
    )
    print("| N x K | M | path | median ms | IQR ms | GB/s | of read BW | GOP/s | of int8 peak |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n, k in arguments.shape or SHAPES:
        measure_shape(n, k, arguments.m or TOKENS, arguments.rounds)


def parse() -> argparse.Namespace:
    """The command line; --shape repeats."""

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(","))

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=numbers, action="append", metavar="N,K")
    parser.add_argument("--m", type=numbers, metavar="M,M..")
    parser.add_argument("--isa")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def random_tensor(n: int, k: int) -> Int4Tensor:
    """Random codes and scales: speed does not depend on them."""
    rng = np.random.default_rng(0)
    groups = k // 128
    return Int4Tensor(
        qweight=rng.integers(0, 256, (n, k // 2), dtype=np.uint8),
        scale=rng.uniform(0.005, 0.02, (n, groups)).astype(np.float16),
        zero=rng.integers(0, 16, (n, groups), dtype=np.uint8),
        group=128,
    )


def measure_shape(n: int, k: int, tokens: Sequence[int], rounds: int) -> None:
    """Check, time and print every variant of one shape."""
    rng = np.random.default_rng(1)
    tensor = random_tensor(n, k)
    variants = [
        Variant(path, m, rng.standard_normal((m, k), np.float32), np.empty((m, n), np.float32))
        for m in tokens
        for path in native.FAMILIES
    ]
    first = PackedInt4(tensor)
    for variant in variants:
        check_against_twin(tensor, first, variant)
    copies = max(2, -(-ceilings.bytes_past_cache() // first.size_bytes))
    weights = [first, *(PackedInt4(tensor) for _ in range(copies - 1))]
    order = random.Random(0)
    for _ in range(rounds):
        order.shuffle(variants)
        for variant in variants:
            measure_once(variant, weights)
    for variant in sorted(variants, key=lambda v: (v.m, v.path)):
        print(row(n, k, first.size_bytes, variant), flush=True)


def check_against_twin(tensor: Int4Tensor, packed: PackedInt4, variant: Variant) -> None:
    """Raise when the kernel and its float64 twin differ: a wrong kernel has no speed."""
    rows = min(CHECKED_ROWS, tensor.shape[0])
    part = Int4Tensor(
        qweight=tensor.qweight[:rows],
        scale=tensor.scale[:rows],
        zero=tensor.zero[:rows],
        group=tensor.group,
    )
    expected = reference.linear_twin(part, variant.x, variant.path)
    error = np.abs(linear(packed, variant.x, variant.path)[:, :rows] - expected).max()
    if not error <= LARGEST_DIFFERENCE * np.abs(expected).max():
        raise SystemExit(f"[w4] {variant.path} M={variant.m} is wrong: largest error {error:g}")


def measure_once(variant: Variant, weights: Sequence[PackedInt4]) -> None:
    """One sample: calls over rotating weights for at least 2 ms, then both ceilings."""
    door = getattr(native.library(), LINEAR_DOORS[variant.path])
    x, y = variant.x.ctypes.data, variant.y.ctypes.data
    calls, taken = 0, 0
    start = time.perf_counter_ns()
    while taken < SHORTEST_SAMPLE_NS or calls < 3:
        error = door(weights[calls % len(weights)].handle, variant.m, x, y)
        native.check(error, variant.path)
        calls += 1
        taken = time.perf_counter_ns() - start
    each_ns = taken / calls
    bandwidth = ceilings.measure("read_bandwidth").value
    peak = ceilings.measure("int8").value
    variant.times_ns.append(each_ns)
    variant.of_bandwidth.append(weights[0].size_bytes * 1e9 / each_ns / bandwidth)
    variant.of_int8.append(byte_operations(variant, weights[0]) * 1e9 / each_ns / peak)


def byte_operations(variant: Variant, packed: PackedInt4) -> int:
    """int8 operations that the path executes: w4a16 runs each product for two halves."""
    n, k = packed.shape
    return 2 * variant.m * n * k * (2 if variant.path == "w4a16" else 1)


def row(n: int, k: int, size_bytes: int, variant: Variant) -> str:
    """One line of the table."""
    median = statistics.median(variant.times_ns)
    quartiles = (
        statistics.quantiles(variant.times_ns, n=4) if len(variant.times_ns) > 1 else [median] * 3
    )
    gops = 2 * variant.m * n * k / median
    return (
        f"| {n} x {k} | {variant.m} | {variant.path} | {median / 1e6:.3f} "
        f"| {(quartiles[2] - quartiles[0]) / 1e6:.3f} | {size_bytes / median:.1f} "
        f"| {statistics.median(variant.of_bandwidth):.2f} | {gops:.0f} "
        f"| {statistics.median(variant.of_int8):.2f} |"
    )


if __name__ == "__main__":
    main()
