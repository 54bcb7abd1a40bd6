"""How long quantizing a workload takes, how long checking it, and how much memory each needs.

    python docs/transform_cost.py assistant@1b awq

A model that was quantized before is in the cache; remove $EDGEBENCH_CACHE/quantized first.
"""

from __future__ import annotations

import resource
import sys
import time

from edgebench.checker.known import known_model
from edgebench.checker.recipe import read_recipe
from edgebench.checker.retrace import Submission, retrace
from edgebench.checker.weights import faults_of
from edgebench.prepare import calibration_set, prepare
from edgebench.progress import choose_progress
from edgebench.transform import parse_transform
from edgebench_workloads.catalog import find

KIB_A_GIB = 2**20


def said(what: str, begun_s: float) -> None:
    """Print a step with its seconds and the process's peak memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_A_GIB
    print(f"{what}: {time.monotonic() - begun_s:.1f} s, peak {peak:.2f} GiB", flush=True)


def main(name: str, chain: str) -> None:
    """Quantize, then check what came of it."""
    begun_s = time.monotonic()
    prepared = prepare(name, parse_transform(chain), choose_progress(False))
    quantized = prepared.quantized
    said(f"{chain} of {name}", begun_s)
    sequences = calibration_set(find(name), prepared.directory).sequences
    begun_s = time.monotonic()
    submission = Submission(
        recipe=read_recipe(quantized.steps),
        tensor=lambda path: quantized.tensors[path],
        folded=quantized.folded.arrays(),
    )
    judged = list(retrace(known_model(prepared.directory, sequences), submission, lambda *_: None))
    said(f"checking {len(judged)} tensors and scales", begun_s)
    print("rules broken:", sorted({fault.rule for one in judged for fault in faults_of(one)}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
