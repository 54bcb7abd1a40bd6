"""Times 2:4 INT4 linears against dense ones with the same weights: checked, then in pairs.

    python kernels/perf/sparse24.py [--shape N,K] [--m 1,4,64] [--isa avx2] [--out DIR]

Both layouts hold the same 2:4 weights and answer with the same bits, which is checked first. In
each round every variant runs once, in a new random order, on copies of its weights that are rotated
past the last-level cache, and the read bandwidth is measured. A ratio is dense time over 2:4 time
within a round: median, and the interval that order statistics give it (at least 95 % of
confidence). `--cached` times one copy instead, which the caches keep. DIR/sparse24.json, or
DIR/sparse24-cached.json, takes what is printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgebench_kernels import ceilings, native, tuning
from edgebench_kernels.formats import Int4Tensor, pack_codes, unpack_codes
from edgebench_kernels.packing import LINEAR_DOORS, Layout, PackedInt4, linear
from edgebench_kernels.race.cases import copies_past_cache, random_activations, random_tensor

SHAPES = ((4096, 4096), (14336, 4096), (4096, 14336))
TOKENS = (1, 4, 64)
GROUP = 128
CONFIDENCE = 0.95
SHORTEST_SAMPLE_NS = 20_000_000
LAYOUTS: tuple[Layout, ...] = ("dense", "2:4")


@dataclass(slots=True)
class Variant:
    """One path, number of tokens and layout, with what its rounds measured."""

    path: str
    m: int
    layout: Layout
    times_ns: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One path at one M: both layouts and their ratio."""

    n: int
    k: int
    m: int
    path: str
    rotated_bytes: int | None
    """Of each layout; None: one copy, from the caches."""
    dense_ms: float
    sparse_ms: float
    dense_bytes: int
    sparse_bytes: int
    dense_percent_of_bandwidth: float
    sparse_percent_of_bandwidth: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int


def main() -> None:
    """Parse, tune as `bench run` does, measure each shape, print one table."""
    arguments = parse()
    if arguments.isa:
        native.force_isa(arguments.isa)
    if arguments.threads:
        native.set_threads(arguments.threads)
    settings = {
        "isa": native.isa(),
        "threads": native.threads(),
        "tuning": dataclasses.asdict(tuning.measure()),
        "load_average": round(os.getloadavg()[0], 2),
    }
    print(settings)
    print("| N x K | M | path | dense ms | 2:4 ms | dense BW | 2:4 BW | ratio | interval |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows, bandwidths = [], []
    for n, k in arguments.shape or SHAPES:
        own, read = measure_shape((n, k), arguments)
        rows += own
        bandwidths += read
    settings["read_GBps"] = statistics.median(bandwidths) / 1e9
    if arguments.out is not None:
        name = "sparse24-cached.json" if arguments.cached else "sparse24.json"
        save(arguments.out / name, settings, rows)


def parse() -> argparse.Namespace:
    """The command line; --shape repeats."""

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(","))

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=numbers, action="append", metavar="N,K")
    parser.add_argument("--m", type=numbers, default=TOKENS, metavar="M,M..")
    parser.add_argument("--isa")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--out", type=Path, metavar="DIR")
    return parser.parse_args()


def random_24(n: int, k: int) -> Int4Tensor:
    """The race's random tensor with two random inputs of every four set to zero."""
    tensor = random_tensor(n, k, GROUP)
    rng = np.random.default_rng(2)
    is_gone = rng.random((n, k // 4, 4), dtype=np.float32).argsort(axis=2) < 2
    zero = np.repeat(tensor.zero, GROUP, axis=1)
    codes = np.where(is_gone.reshape(n, k), zero, unpack_codes(tensor))
    return dataclasses.replace(tensor, qweight=pack_codes(codes))


def measure_shape(
    shape: tuple[int, int], arguments: argparse.Namespace
) -> tuple[list[Row], list[float]]:
    """Check, time and print every variant of one shape; its rows, the bandwidth of each round."""
    tensor = random_24(*shape)
    variants = [
        Variant(path, m, layout)
        for m in arguments.m
        for path in native.FAMILIES
        for layout in LAYOUTS
    ]
    first = {layout: PackedInt4(tensor, layout) for layout in LAYOUTS}
    check_equal(first, variants)
    weights = {
        layout: [one, *(PackedInt4(tensor, layout) for _ in range(more(one, arguments.cached)))]
        for layout, one in first.items()
    }
    order, bandwidths = random.Random(0), []
    for _ in range(arguments.rounds):
        for variant in order.sample(variants, len(variants)):
            variant.times_ns.append(sample_ns(variant, weights[variant.layout]))
        bandwidths.append(ceilings.measure("read_bandwidth").value)
    rows = []
    for dense, sparse in zip(variants[::2], variants[1::2], strict=True):
        rows.append(row_of(dense, sparse, weights, bandwidths))
        print(line(rows[-1]), flush=True)
    return rows, bandwidths


def more(packed: PackedInt4, is_cached: bool) -> int:
    """Further copies, so that all together do not fit in a cache; none where they should."""
    return 0 if is_cached else copies_past_cache(packed.size_bytes) - 1


def check_equal(packed: dict[Layout, PackedInt4], variants: Sequence[Variant]) -> None:
    """Exit unless both layouts give the same bits: a wrong kernel has no speed."""
    for m, path in {(variant.m, variant.path) for variant in variants}:
        x = random_activations(m, packed["dense"].shape[1])
        dense, sparse = (linear(packed[layout], x, path) for layout in LAYOUTS)
        if not np.array_equal(dense, sparse):
            raise SystemExit(f"[sparse24] {path} M={m}: the layouts give different outputs")


def sample_ns(variant: Variant, weights: Sequence[PackedInt4]) -> float:
    """Ns of one product: a call that wakes the pool, then calls for at least 20 ms."""
    door = getattr(native.library(), LINEAR_DOORS[variant.path])
    n, k = weights[0].shape
    x, y = random_activations(variant.m, k), np.empty((variant.m, n), np.float32)
    native.check(door(weights[-1].handle, variant.m, x.ctypes.data, y.ctypes.data), variant.path)
    calls, taken_ns = 0, 0
    started = time.perf_counter_ns()
    while taken_ns < SHORTEST_SAMPLE_NS:
        handle = weights[calls % len(weights)].handle
        native.check(door(handle, variant.m, x.ctypes.data, y.ctypes.data), variant.path)
        calls += 1
        taken_ns = time.perf_counter_ns() - started
    return taken_ns / calls


def row_of(
    dense: Variant,
    sparse: Variant,
    weights: dict[Layout, list[PackedInt4]],
    bandwidths: Sequence[float],
) -> Row:
    """Medians of a pair of variants, and of what the rounds' own pairs say."""
    sizes = {layout: own[0].size_bytes for layout, own in weights.items()}
    ratios = [a / b for a, b in zip(dense.times_ns, sparse.times_ns, strict=True)]
    low, high = median_interval(ratios)
    n, k = weights["dense"][0].shape

    def percent(variant: Variant) -> float:
        pairs = zip(variant.times_ns, bandwidths, strict=True)
        return 100 * statistics.median(sizes[variant.layout] * 1e9 / t / b for t, b in pairs)

    return Row(
        n=n,
        k=k,
        m=dense.m,
        path=dense.path,
        rotated_bytes=copies_past_cache(1) if len(weights["dense"]) > 1 else None,
        dense_ms=statistics.median(dense.times_ns) / 1e6,
        sparse_ms=statistics.median(sparse.times_ns) / 1e6,
        dense_bytes=sizes["dense"],
        sparse_bytes=sizes["2:4"],
        dense_percent_of_bandwidth=percent(dense),
        sparse_percent_of_bandwidth=percent(sparse),
        ratio=statistics.median(ratios),
        ratio_low=low,
        ratio_high=high,
        rounds=len(ratios),
    )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that holds the median at CONFIDENCE.

    P(x_(r) <= median <= x_(n+1-r)) = 1 - 2 P(Binomial(n, 1/2) < r) (David and Nagaraja, Order
    Statistics, section 7.1); with too few values, the smallest and the largest.
    """
    ordered, n = sorted(values), len(values)
    rank, below = 1, 1 / 2**n
    while rank < n / 2:
        below += math.comb(n, rank) / 2**n
        if 1 - 2 * below < CONFIDENCE:
            break
        rank += 1
    return ordered[rank - 1], ordered[n - rank]


def line(row: Row) -> str:
    """One line of the table."""
    return (
        f"| {row.n} x {row.k} | {row.m} | {row.path} | {row.dense_ms:.3f} | {row.sparse_ms:.3f} "
        f"| {row.dense_percent_of_bandwidth:.0f} % | {row.sparse_percent_of_bandwidth:.0f} % "
        f"| {row.ratio:.2f}x | {row.ratio_low:.2f}..{row.ratio_high:.2f} |"
    )


def save(path: Path, settings: dict[str, object], rows: Sequence[Row]) -> None:
    """Write the settings and the rows, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**settings, "rows": [dataclasses.asdict(row) for row in rows]}, indent=2)
    part = path.with_name(path.name + ".part")
    part.write_text(text + "\n")
    part.replace(path)


if __name__ == "__main__":
    main()
