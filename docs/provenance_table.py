"""Measures what the provenance checks say of honest submissions and of cheats.

    python docs/provenance_table.py --state FOLDER [--seeds 20] [--cheat-seeds 5] [--kept]

On the shipped `assistant` model; docs/provenance.md says what a seed draws and what the columns
mean. What is done is kept in the state folder and not done again. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from provenance_cases import CHEATS, HARMLESS, HONEST, World, draw_world

from edgebench.checker.codes import Judged
from edgebench.checker.known import known_model
from edgebench.checker.recipe import read_recipe
from edgebench.checker.retrace import Submission, retrace
from edgebench.checker.scales import Scaled
from edgebench.checker.weights import faults_of
from edgebench.prepare import calibration_set
from edgebench.transform.quantized import QuantizedModel
from edgebench_workloads.catalog import find


def judged(world: World, model: QuantizedModel) -> dict[str, object]:
    """What the checker says, in numbers."""
    submission = Submission(
        recipe=read_recipe(model.steps),
        tensor=lambda name: model.tensors[name],
        folded=model.folded.arrays(),
    )
    started = time.process_time()
    known = known_model(world.folder, world.sequences)
    found = list(retrace(known, submission, lambda *_: None))
    codes = [one for one in found if isinstance(one, Judged)]
    scales = [one.deviation for one in found if isinstance(one, Scaled)]
    return {
        "rules": sorted({fault.rule for one in found for fault in faults_of(one)}),
        "near": sum(one.near for one in codes) / sum(one.weights for one in codes),
        "near_least": min(one.near_share for one in codes),
        "off_grid": sum(one.off_grid for one in codes) / sum(one.groups for one in codes),
        "zeros": max(one.zero_share for one in codes),
        "patterns": sorted({one.pattern for one in codes if one.pattern}),
        "scales": max(scales, default=0.0),
        "check_cpu_s": time.process_time() - started,
    }


def row(name: str, found: list[dict[str, object]]) -> str:
    """One line of the table: the worst of all seeds."""
    rejected = sum(bool(one["rules"]) for one in found)
    rules = sorted({rule for one in found for rule in one["rules"]})  # type: ignore[attr-defined]
    always = [rule for rule in rules if all(rule in one["rules"] for one in found)]  # type: ignore[operator]
    told = ", ".join(rule if rule in always else f"({rule})" for rule in rules) or "-"
    patterns = sorted({p for one in found for p in one["patterns"]})  # type: ignore[attr-defined]
    told += "".join(f" {pattern}" for pattern in patterns)

    def span(key: str, form: str) -> str:
        values = np.array([one[key] for one in found], dtype=np.float64)
        low, high = (format(value, form) for value in (values.min(), values.max()))
        return low if low == high else f"{low} .. {high}"

    cells = [
        name, f"{rejected} of {len(found)}", told, span("near", ".3%"), span("near_least", ".3%"),
        span("off_grid", ".2%"), span("zeros", ".3%"), span("scales", ".1e"),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Parse, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, required=True, help="folder to keep results in")
    parser.add_argument("--seeds", type=int, default=20, help="of each honest submission")
    parser.add_argument("--cheat-seeds", type=int, default=5, help="of each cheat")
    parser.add_argument("--only", default="", help="only cases with this text in their names")
    parser.add_argument("--kept", action="store_true", help="only what --state holds already")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    workload = find("assistant")
    source = workload.reference_directory()
    sequences = calibration_set(workload, source).sequences
    plan: list[tuple[str, Callable[[World], QuantizedModel], int]] = [
        (name, make, seed)
        for table, seeds in ((HONEST, options.seeds), (HARMLESS | CHEATS, options.cheat_seeds))
        for name, make in table.items()
        for seed in range(seeds)
        if options.only in name
    ]
    found: dict[str, list[dict[str, object]]] = {}
    with tempfile.TemporaryDirectory() as room:
        for name, make, seed in sorted(plan, key=lambda one: one[2]):
            kept = options.state / f"{''.join(c if c.isalnum() else '-' for c in name)}-{seed}.json"
            if not kept.exists() and not options.kept:
                started = time.monotonic()
                world = draw_world(source, sequences, seed, Path(room))
                kept.write_text(json.dumps(judged(world, make(world))))
                print(
                    f"{name} {seed}: {time.monotonic() - started:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
            if kept.exists():
                found.setdefault(name, []).append(json.loads(kept.read_text()))
    columns = [
        "submission",
        "rejected",
        "by",
        "codes near",
        "least of a tensor",
        "grids that do not follow",
    ]
    print(f"| {' | '.join([*columns, 'zeros', 'scales off'])} |")
    print("| --- |" + " --- |" * (len(columns) + 1))
    for name in (name for table in (HONEST, HARMLESS, CHEATS) for name in table if name in found):
        print(row(name, found[name]))


if __name__ == "__main__":
    main()
