"""Draws this device's own front of `wake`: subnets that `nas` finds beside uniformly scaled nets.

    python -m edgebench_workloads.wake.train_scaled --out SCALED      about 15 minutes
    python docs/nas_sweep.py --out FOLDER --scaled SCALED [--points 8] [--samples 100] [--threads N]

Latency limits are spread evenly, as ratios, from the fastest subnet to the largest; the last search
has none. Two baselines: the largest architecture by width multiplier, trained by the first command,
with the shipped reference as width 1; and uniform subnets of the same supernet, every block the
same kernel (5) and expansion, every stage the same depth. Both at each resolution. All are then
timed in turns, and judged on 8,000 validation scenes that no search saw. Writes sweep.json and
sweep.svg. Searches are kept in the cache (docs/open-track.md), so a second run only measures again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import altair as alt
import torch
import vl_convert

from edgebench.codec import write_atomic
from edgebench.errors import SpecError
from edgebench.images.choices import reference_choices
from edgebench.images.engine import ImageEngine, inputs_of
from edgebench.images.graph import read_genome
from edgebench.images.prepared import SUPERNET
from edgebench.subnet_record import LatencyTable
from edgebench.system import usable_cores
from edgebench.transform.nas import read_nas, shown
from edgebench.transform.nas_accuracy import BATCH, Evaluator
from edgebench.transform.nas_found import FoundSubnet, Ground, found_once, machine_name
from edgebench.transform.nas_measure import WINNER_PASSES, measure_subnets
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
from edgebench_workloads.wake.scaled import (
    ScaledNet,
    genome_at,
    scaled_layers,
    scaled_multiply,
)
from edgebench_workloads.wake.scenes import Scene, scenes
from edgebench_workloads.wake.subnet import cut
from edgebench_workloads.wake.supernet import calibrate
from edgebench_workloads.wake.train import calibration_images
from edgebench_workloads.wake.train_scaled import trained, training_cost

KERNEL = 5  # of the uniform baseline
LABELS = {"nas": "found by nas", "uniform": "uniform subnets", "width": "width multiplier"}
JUDGED = range(1000, 9000)  # validation scenes
TICKS = tuple(a * 10.0**b for b in range(-2, 3) for a in (1, 1.5, 2, 3, 5, 7))  # ms
PLAIN = 1  # fp32 as convolutions, of the reference's engines: fastest for many images


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One subnet on the plot."""

    kind: str
    genome: Genome
    predicted_ns: int | None = None
    width: float | None = None
    """Of a width multiplier's network, whose genome is the largest but for its channels."""
    latency_ns: int = 0
    top1: float = 0.0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        if self.width is None:
            return total_macs(self.genome)
        return sum(one.macs for one in scaled_layers(self.width, self.genome.resolution))

    def as_json(self) -> dict[str, Any]:
        """As sweep.json has it."""
        return {
            "kind": self.kind,
            "genome": self.genome.as_json(),
            "width": self.width,
            "macs": self.macs,
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
    """Limits from a twentieth above the fastest to below the largest, evenly spread as ratios."""
    low = 1.05 * fastest_ns
    return [round(low * (largest_ns / low) ** (place / count)) for place in range(count)]


def widest(ground: Ground, samples: int) -> FoundSubnet:
    """A search without a limit to speak of."""
    return found_once(read_nas({"latency": "1000s", "samples": samples}), ground)


def points_of(ground: Ground, count: int, samples: int) -> tuple[list[Point], LatencyTable]:
    """Search for every limit, and once without one; the uniform subnets, and the table of all.

    A limit is met as measured, so one near the fastest may prove out of reach: that is said.
    """
    last = widest(ground, samples)
    table = last.found.search.table
    fastest = cheapest(table, resolutions=RESOLUTIONS)
    subnets = []
    for limit in limits(predicted_ns(table, fastest), predicted_ns(table, LARGEST), count - 1):
        request = read_nas({"latency": shown("latency", limit), "samples": samples})
        try:
            subnets.append(found_once(request, ground))
        except SpecError as error:
            print(error, file=sys.stderr)
    genomes = dict.fromkeys(read_genome(one.directory) for one in [*subnets, last])
    found = [Point(kind="nas", genome=g, predicted_ns=predicted_ns(table, g)) for g in genomes]
    uniform = [
        make_genome(max, resolutions=[r], depths=[d], kernels=[KERNEL], expansions=[e])
        for r in RESOLUTIONS
        for d in DEPTHS
        for e in EXPANSIONS
    ]
    baseline = [
        Point(kind="uniform", genome=g, predicted_ns=predicted_ns(table, g)) for g in uniform
    ]
    return [*found, *baseline], table


def scaled_points(folder: Path) -> tuple[list[Point], dict[float, ScaledNet]]:
    """Every trained width at every resolution, and the shipped reference as width 1."""
    nets = trained(folder)
    points = [
        Point(kind="width", genome=genome_at(resolution), width=width)
        for width in nets
        for resolution in RESOLUTIONS
    ]
    whole = [Point(kind="width", genome=genome_at(resolution)) for resolution in RESOLUTIONS]
    return [*points, *whole], nets


def ready(point: Point, nets: Mapping[float, ScaledNet], evaluator: Evaluator) -> list[ImageEngine]:
    """A point's network in every engine that it may run in."""
    genome = point.genome
    if point.width is None:
        return reference_choices(genome, evaluator.cut(genome))
    net, width = nets[point.width], point.width
    calibrate(net, genome, calibration_images(genome.resolution))
    weights = {name: one.half().float() for name, one in cut(net, genome).items()}
    return [
        replace(one, multiply=scaled_multiply(one.multiply, width, genome.resolution))
        for one in reference_choices(genome, weights)
    ]


def judged(
    points: Sequence[Point], nets: Mapping[float, ScaledNet], evaluator: Evaluator
) -> list[Point]:
    """Time all networks in turns, and count right answers."""
    chosen = list(scenes("validation", len(JUDGED), JUDGED.start))
    engines = [ready(point, nets, evaluator) for point in points]
    shown = {r: inputs_of(chosen[:64], r) for r in {p.genome.resolution for p in points}}
    timed = measure_subnets(
        [(own, shown[p.genome.resolution]) for p, own in zip(points, engines, strict=True)]
    )
    return [
        replace(point, latency_ns=one.latency_ns, top1=top1(own[PLAIN], chosen))
        for point, one, own in zip(points, timed, engines, strict=True)
    ]


def top1(engine: ImageEngine, chosen: Sequence[Scene]) -> float:
    """The share of right answers."""
    parts = inputs_of(chosen, engine.genome.resolution).split(BATCH)
    came = [one for part in parts for one in engine.classify(part)]
    return sum(a == int(b.is_wake) for a, b in zip(came, chosen, strict=True)) / len(chosen)


def beaten(points: Sequence[Point], kind: str) -> int:
    """How many of a baseline a found subnet matches in both latency and top-1."""
    found = [point for point in points if point.kind == "nas"]
    return sum(
        any(f.latency_ns <= u.latency_ns and f.top1 >= u.top1 for f in found)
        for u in points
        if u.kind == kind
    )


def plot(points: Sequence[Point]) -> str:
    """Top-1 over latency as SVG; kinds differ in shape as well as colour."""
    values = [{"ms": p.latency_ns / 1e6, "top1": p.top1, "subnets": LABELS[p.kind]} for p in points]
    chart = (
        chart_of(values)
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=alt.X(
                "ms:Q",
                title="ms an image",
                scale=alt.Scale(type="log", nice=False, padding=20),
                axis=alt.Axis(values=list(TICKS), format="~g"),
            ),
            y=alt.Y(
                "top1:Q",
                title="top-1",
                scale=alt.Scale(zero=False, padding=10),
                axis=alt.Axis(format=".1%"),
            ),
            color=alt.Color("subnets:N", title=None, legend=alt.Legend(orient="top")),
            shape=alt.Shape("subnets:N", title=None),
        )
    )
    whole = chart.properties(width=560, height=360, background="white")
    return str(vl_convert.vegalite_to_svg(whole.to_dict()))


def main() -> int:
    """Sweep, and say how the two compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scaled", type=Path, help="folder of train_scaled; without: no widths")
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
    scaled, nets = scaled_points(options.scaled) if options.scaled else ([], {})
    searched, table = points_of(ground, options.points, options.samples)
    points = judged([*searched, *scaled], nets, evaluator)
    options.out.mkdir(parents=True, exist_ok=True)
    counts = {
        kind: {"beaten": beaten(points, kind), "of": sum(one.kind == kind for one in points)}
        for kind in ("width", "uniform")
    }
    result = {
        "machine": ground.machine,
        "threads": options.threads,
        "torch": torch.__version__,
        "load_average_after": os.getloadavg(),
        "supernet_sha256": ground.supernet_sha256,
        "judged_on": f"validation scenes {JUDGED.start} to {JUDGED.stop - 1}",
        "passes": WINNER_PASSES,
        "table": table.model_dump(mode="json", exclude={"block_ns"}),
        "widths": training_cost(options.scaled) if options.scaled else None,
        "baselines": counts,
        "points": [point.as_json() for point in points],
    }
    write_atomic(options.out / "sweep.json", json.dumps(result, indent=1).encode() + b"\n")
    write_atomic(options.out / "sweep.svg", plot(points).encode())
    print(f"{sum(one.kind == 'nas' for one in points)} found; {counts}")
    for point in sorted(points, key=lambda one: one.latency_ns):
        print(f"{point.kind:8} {point.latency_ns / 1e6:7.3f} ms  top-1 {point.top1:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
