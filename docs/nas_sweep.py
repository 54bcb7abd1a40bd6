"""Draws this device's own front of `wake`: subnets that `nas` finds beside uniformly scaled ones.

    python docs/nas_sweep.py --out FOLDER [--points 8] [--samples 100] [--threads N]

Latency limits are spread evenly, as ratios, between the fastest subnet and the largest. The
baseline is uniform, from the same supernet: every block the same kernel (5) and expansion, every
stage the same depth, at each resolution; 27 subnets. All are then timed in turns, and judged on
1,000 validation scenes that no search saw. Writes sweep.json and sweep.svg. Searches are kept in
the cache (docs/open-track.md), so a second run only measures again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import altair as alt
import torch
import vl_convert

from edgebench.codec import write_atomic
from edgebench.images.choices import reference_choices
from edgebench.images.engine import inputs_of, reference_engine
from edgebench.images.graph import read_genome
from edgebench.images.prepared import SUPERNET
from edgebench.system import usable_cores
from edgebench.transform.nas import read_nas, shown
from edgebench.transform.nas_accuracy import BATCH, Evaluator
from edgebench.transform.nas_found import Ground, found_once, machine_name
from edgebench.transform.nas_measure import measure_subnet
from edgebench.transform.nas_table import cheapest, predicted_ns
from edgebench_kernels import native
from edgebench_reports.charts import chart_of
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.wake.costs import total_macs
from edgebench_workloads.wake.genome import (
    DEPTHS,
    EXPANSIONS,
    LARGEST,
    RESOLUTIONS,
    Genome,
    make_genome,
)
from edgebench_workloads.wake.scenes import Scene, scenes

KERNEL = 5  # of the uniform baseline
JUDGED = range(1000, 2000)  # validation scenes
TURNS = 3  # of timing every subnet; the median counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One subnet on the plot."""

    kind: str
    genome: Genome
    predicted_ns: int
    latency_ns: int = 0
    top1: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """As sweep.json has it."""
        return {
            "kind": self.kind,
            "genome": self.genome.as_json(),
            "macs": total_macs(self.genome),
            "predicted_ns": self.predicted_ns,
            "latency_ns": self.latency_ns,
            "top1": self.top1,
        }


def ground_of(evaluator: Evaluator) -> Ground:
    """What the searches stand on: fp16 subnets of the shipped supernet."""
    workload = WORKLOADS["wake"]
    return Ground(
        reference_sha256=workload.reference_sha256,
        supernet_sha256=str(workload.task.model.supernet_sha256),
        evaluator=evaluator,
        choices=reference_choices,
        engine="None",  # as a chain without a quantizer has it
        machine=machine_name(),
    )


def limits(fastest_ns: int, largest_ns: int, count: int) -> list[int]:
    """Limits from a twentieth above the fastest to the largest, evenly spread as ratios."""
    low = 1.05 * fastest_ns
    return [round(low * (largest_ns / low) ** (place / (count - 1))) for place in range(count)]


def points_of(ground: Ground, count: int, samples: int) -> list[Point]:
    """Search for every limit; a first search without a limit to speak of gives the table."""
    widest = read_nas({"latency": "1000s", "samples": samples})
    table = found_once(widest, ground).found.search.table
    fastest = cheapest(table, resolutions=RESOLUTIONS)
    found: dict[Genome, Point] = {}
    for limit in limits(predicted_ns(table, fastest), predicted_ns(table, LARGEST), count):
        request = read_nas({"latency": shown("latency", limit), "samples": samples})
        genome = read_genome(found_once(request, ground).directory)
        found[genome] = Point(kind="nas", genome=genome, predicted_ns=predicted_ns(table, genome))
    uniform = [
        make_genome(max, resolutions=[r], depths=[d], kernels=[KERNEL], expansions=[e])
        for r in RESOLUTIONS
        for d in DEPTHS
        for e in EXPANSIONS
    ]
    return [
        *found.values(),
        *(Point(kind="uniform", genome=g, predicted_ns=predicted_ns(table, g)) for g in uniform),
    ]


def judged(points: Sequence[Point], evaluator: Evaluator) -> list[Point]:
    """Time all subnets in turns, each turn the other way round, and count right answers."""
    chosen = list(scenes("validation", len(JUDGED), JUDGED.start))
    weights = [evaluator.cut(point.genome) for point in points]
    engines = [reference_choices(p.genome, w) for p, w in zip(points, weights, strict=True)]
    took: list[list[int]] = [[] for _ in points]
    for turn in range(TURNS):
        order = range(len(points))
        for place in order if turn % 2 == 0 else reversed(order):
            images = inputs_of(chosen[:64], points[place].genome.resolution)
            took[place].append(measure_subnet(engines[place], images).latency_ns)
    return [
        replace(
            point,
            latency_ns=round(statistics.median(took[place])),
            top1=top1(point.genome, weights[place], chosen),
        )
        for place, point in enumerate(points)
    ]


def top1(genome: Genome, weights: dict[str, torch.Tensor], chosen: Sequence[Scene]) -> float:
    """The share of right answers."""
    engine = reference_engine(genome, weights, torch.float32, as_matrices=False)
    parts = inputs_of(chosen, genome.resolution).split(BATCH)
    came = [one for part in parts for one in engine.classify(part)]
    return sum(a == int(b.is_wake) for a, b in zip(came, chosen, strict=True)) / len(chosen)


def beaten(points: Sequence[Point]) -> int:
    """Uniform subnets that a found one matches in both latency and top-1."""
    found = [point for point in points if point.kind == "nas"]
    return sum(
        any(f.latency_ns <= u.latency_ns and f.top1 >= u.top1 for f in found)
        for u in points
        if u.kind == "uniform"
    )


def plot(points: Sequence[Point]) -> str:
    """Top-1 over latency as SVG; kinds differ in shape as well as colour."""
    values = [{"ms": p.latency_ns / 1e6, "top1": p.top1, "subnets": p.kind} for p in points]
    chart = (
        chart_of(values)
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=alt.X("ms:Q", title="ms an image", scale=alt.Scale(type="log", zero=False)),
            y=alt.Y("top1:Q", title="top-1", scale=alt.Scale(zero=False)),
            color=alt.Color("subnets:N", title=None),
            shape=alt.Shape("subnets:N", title=None),
        )
    )
    whole = chart.properties(width=560, height=360, background="white")
    return str(vl_convert.vegalite_to_svg(whole.to_dict()))


def main() -> int:
    """Sweep, and say how the two compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()
    if options.points < 2:
        parser.error(f"expected --points of 2 at least, got {options.points}")
    torch.set_num_threads(options.threads)
    native.set_threads(options.threads)
    evaluator = Evaluator(WORKLOADS["wake"].reference_directory() / SUPERNET)
    ground = ground_of(evaluator)
    points = judged(points_of(ground, options.points, options.samples), evaluator)
    options.out.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": ground.machine,
        "supernet_sha256": ground.supernet_sha256,
        "judged_on": f"validation scenes {JUDGED.start} to {JUDGED.stop - 1}",
        "uniform_beaten": beaten(points),
        "points": [point.as_json() for point in points],
    }
    write_atomic(options.out / "sweep.json", json.dumps(result, indent=1).encode() + b"\n")
    write_atomic(options.out / "sweep.svg", plot(points).encode())
    found = [point for point in points if point.kind == "nas"]
    print(f"{len(found)} found; {beaten(points)} of {len(points) - len(found)} uniform are beaten")
    for point in sorted(points, key=lambda one: one.latency_ns):
        print(f"{point.kind:8} {point.latency_ns / 1e6:7.3f} ms  top-1 {point.top1:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
