"""Times one decode step of the engine against its linears alone: what the rest costs.

    python kernels/perf/step.py [--replicas 1,8] [--batch 1,64] [--columns 60] [--rounds 15]
                                [--threads 2] [--cell fp16] [--isa avx2]

Models have the shapes of `assistant` widened `replicas` times (1 is the trained model, 8 has 300 M
parameters) and random weights: speed does not depend on their values. Each round runs, in a new
random order, a few decode steps of

    native       one native call per step (what `build_int4` gives)
    calls        the native operations, called one by one around the same linears
    torch        torch's operations around the same linears, fp32 cache
    fp16         the fp16 reference as the harness runs it: with the fastest operations
    fp16 torch   the fp16 reference with torch's operations, fp32 cache

and both kinds of linear alone, in execution order, on prepared inputs (INT4: by their C doors, and
for `native`, which has no Python between them, less the cost of as many empty calls). The rest is
the median of each round's (step - linears), per step and per layer. Before timing, the engines'
logits are compared.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from edgebench_kernels import native
from edgebench_kernels.engine import (
    Engine,
    LlamaConfig,
    LlamaWeights,
    PathChoice,
    build_fp16,
    build_int4,
    fastest_ops,
    pack_int4,
    probe,
    weights_from_tensors,
)
from edgebench_kernels.engine.linear_int4 import PathLinear
from edgebench_kernels.engine.weights import tensor_shapes
from edgebench_kernels.formats import choose_group
from edgebench_kernels.packing import LINEAR_DOORS
from edgebench_kernels.quantize import quantize_rtn

PATHS = PathChoice(single="w4a16", many="w4a8")
PAUSE_S = 0.02  # the other thread pool of the variant before stops spinning
SHORTEST_SAMPLE_NS = 4_000_000
# (variant, twin, largest relative difference of the logits); w4a8 rounds what differs anew.
COMPARED = (
    ("native", "calls", 1e-5),
    ("native", "torch", 1e-1),
    ("fp16", "fp16 torch", 1e-1),
)
LINEARS_OF = {
    "native": "linears int4",
    "calls": "linears int4",
    "torch": "linears int4",
    "fp16": "linears fp16",
    "fp16 torch": "linears fp16",
}


@dataclass(slots=True)
class Variant:
    """A thing that is timed, with what its rounds measured."""

    run: Callable[[int], None]
    times_ns: list[float] = field(default_factory=list)


def main() -> None:
    """Parse, build each model once, print one table row per variant."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    native.set_threads(arguments.threads)
    if arguments.isa:
        native.force_isa(arguments.isa)
    print(
        f"isa {native.isa()}, {arguments.threads} threads, cache {arguments.cell}, "
        f"{arguments.columns} columns, n = {arguments.rounds} rounds, "
        f"load average {os.getloadavg()[0]:.2f}"
    )
    print(
        "| model | batch | step | median us | IQR us | linears us | rest us | rest us per layer |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for replicas in numbers(arguments.replicas):
        weights = random_weights(replicas)
        engines = build(weights, arguments)
        for batch in numbers(arguments.batch):
            measure(f"x{replicas}", weights, engines, batch, arguments)


def measure(
    model: str,
    weights: LlamaWeights,
    engines: dict[str, Engine],
    batch: int,
    arguments: argparse.Namespace,
) -> None:
    """Interleave all variants at one batch, then print their rows."""
    compare(engines, batch, arguments)
    variants = {
        name: Variant(steps_of(engine, batch, arguments)) for name, engine in engines.items()
    }
    for name, source in (("linears int4", "torch"), ("linears fp16", "fp16 torch")):
        variants[name] = Variant(linears_of(engines[source], batch))
    variants["empty calls"] = Variant(empty_calls(engines["native"]))
    counts = {name: repeats(variant) for name, variant in variants.items()}
    for _ in range(arguments.rounds):
        for name in random.sample(list(variants), len(variants)):
            time.sleep(PAUSE_S)
            variants[name].run(1)
            begin = time.perf_counter_ns()
            variants[name].run(counts[name])
            variants[name].times_ns.append((time.perf_counter_ns() - begin) / counts[name])
    for name in engines:
        times, linears = variants[name].times_ns, variants[LINEARS_OF[name]].times_ns
        if name == "native":  # it has no Python between its linears
            empty = variants["empty calls"].times_ns
            linears = [a - b for a, b in zip(linears, empty, strict=True)]
        rest = statistics.median(a - b for a, b in zip(times, linears, strict=True)) / 1e3
        quarters = statistics.quantiles(times, n=4)
        print(
            f"| {model} | {batch} | {name} | {statistics.median(times) / 1e3:.0f} "
            f"| {(quarters[2] - quarters[0]) / 1e3:.0f} | {statistics.median(linears) / 1e3:.0f} "
            f"| {rest:.0f} | {rest / weights.config.layers:.1f} |",
            flush=True,
        )


def repeats(variant: Variant) -> int:
    """Steps of one sample, so that it lasts long enough to be timed; warms up."""
    variant.run(1)
    begin = time.perf_counter_ns()
    variant.run(2)
    return max(1, round(2 * SHORTEST_SAMPLE_NS / max(1, time.perf_counter_ns() - begin)))


def steps_of(engine: Engine, batch: int, arguments: argparse.Namespace) -> Callable[[int], None]:
    """Greedy steps that stay near `columns`: the cache is set back after each sample."""
    length = arguments.columns
    engine.prefill(torch.zeros(batch, length, dtype=torch.long), [length] * batch)

    def run(count: int) -> None:
        tokens = [1] * batch
        for _ in range(count):
            engine.cache.length = length
            tokens = engine.decode_greedy(tokens)

    return run


def linears_of(engine: Engine, batch: int) -> Callable[[int], None]:
    """All linears of a step, in order, on prepared inputs; INT4 ones by their doors."""
    generator = torch.Generator().manual_seed(batch)
    linears = list(engine.linears.values())
    inputs = {
        width: torch.randn(batch, width, generator=generator)
        for width in {linear.shape[1] for linear in linears}
    }
    calls = []
    for linear in linears:
        x = inputs[linear.shape[1]]
        if isinstance(linear, PathLinear):
            calls.append(door_call(linear, x))
        else:
            calls.append(functools.partial(linear, x))

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            for call in calls:
                call()

    return run


def door_call(linear: PathLinear, x: torch.Tensor) -> Callable[[], int]:
    """One product with everything prepared but ctypes' own conversions (about 1 us)."""
    packed = linear.packed.packed
    door = getattr(native.library(), LINEAR_DOORS[PATHS.for_rows(len(x))])
    y = torch.empty(len(x), linear.shape[0])
    call = functools.partial(door, packed.handle, len(x), x.data_ptr(), y.data_ptr())
    call.tensors = (packed, x, y)  # type: ignore[attr-defined]  # what the pointers point to
    return call


def empty_calls(engine: Engine) -> Callable[[int], None]:
    """As many calls of the same door as a step has linears, each refused at once (M = 0)."""
    linears = list(engine.linears.values())
    door = native.library().eb_w4a16_linear
    calls = [functools.partial(door, one.packed.packed.handle, 0, 1, 1) for one in linears]

    def run(count: int) -> None:
        for _ in range(count):
            for call in calls:
                call()

    return run


def compare(engines: dict[str, Engine], batch: int, arguments: argparse.Namespace) -> None:
    """The same operations in one call or many give the same logits, torch's give close ones."""
    ids = torch.arange(batch * arguments.columns).view(batch, -1) % 1000
    logits = {}
    for name, engine in engines.items():
        engine.prefill(ids, [arguments.columns] * batch)
        logits[name] = engine.decode(ids[:, 0])
    for name, twin, most in COMPARED:
        error = (logits[name] - logits[twin]).norm() / logits[twin].norm()
        if not error <= most:
            raise SystemExit(f"{name} differs from {twin} by {error:.1e} at batch {batch}")


def build(weights: LlamaWeights, arguments: argparse.Namespace) -> dict[str, Engine]:
    """The five engines; the INT4 ones share their packed weights."""
    quantized = {
        name: quantize_rtn(w.numpy(), choose_group(w.shape[1]))
        for name, w in weights.linears().items()
    }
    packed = pack_int4(weights, quantized)
    room = {
        "max_batch": max(numbers(arguments.batch)),
        "max_length": arguments.columns + 1,
    }
    cell = {"cell": arguments.cell}
    regimes = probe(weights)
    reference = build_fp16(weights, regimes, **room, **cell)
    ops = fastest_ops(reference)
    print(f"fp16 reference: {regimes.describe()}; {ops.single}@1 {ops.many}@>1 operations")
    calls = build_int4(weights, {}, PATHS, packed=packed, ops="native", **room, **cell)
    calls._decoder = None  # the same operations with Python between them
    return {
        "native": build_int4(weights, {}, PATHS, packed=packed, ops="native", **room, **cell),
        "calls": calls,
        "torch": build_int4(weights, {}, PATHS, packed=packed, ops="torch", cell="fp32", **room),
        "fp16": reference,
        "fp16 torch": build_fp16(weights, regimes, ops="torch", cell="fp32", **room),
    }


def random_weights(replicas: int) -> LlamaWeights:
    """The shape of `assistant` (hidden 256, 8 heads, 6 layers) times `replicas`."""
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=256 * replicas,
        intermediate_size=768 * replicas,
        layers=6,
        heads=8 * replicas,
        kv_heads=4 * replicas,
        head_dim=32,
        max_position_embeddings=256,
        rope_theta=10_000.0,
        rms_norm_eps=1e-5,
        is_tied=False,
    )
    generator = torch.Generator().manual_seed(replicas)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        scale = 1.0 if len(shape) == 1 else shape[-1] ** -0.5
        tensors[name] = (torch.randn(shape, generator=generator) * scale).half()
    return weights_from_tensors(config, tensors)


def numbers(text: str) -> list[int]:
    """'1,64' -> [1, 64]."""
    return [int(part) for part in text.split(",")]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", default="1")
    parser.add_argument("--batch", default="1,64")
    parser.add_argument("--columns", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=native.default_threads())
    parser.add_argument("--cell", default="fp16", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--isa")
    return parser.parse_args()


if __name__ == "__main__":
    main()
