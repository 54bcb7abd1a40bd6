"""The probe: one fresh process that times a suite's kernels once, and imports little.

JSON on stdin, JSON on stdout. A process is one piece of evidence, and gives one number a cell: the
time of a call in its fastest block, since whatever else the machine does can only add to it. Head's
text of this file runs in the baseline's environment too, so that one yardstick measures both.

    {"cells": [{"path", "n", "k", "m"}], "calls": {name: int} | null, "extra": {name: float},
     "threads": int | null}
    {"version": str, "times_ns": {name: ns per call}, "calls": {name: int}}

`extra` is the self-test's: a fraction of more calls that are made and not counted as calls, so a
planted slow-down is real work and no edited number.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

BLOCK_NS = 1_000_000  # of one timed block: long against the clock, short against a time slice
WHOLE_CALLS = 100  # a self-test's block is a multiple, so that 1 % more work is whole calls
BLOCKS, WARM_BLOCKS = 24, 2
LONG_ENOUGH = 250  # blocks of all cells: few cells get more, so that a short disturbance passes
CONTROL = "control"
"""The cell that no change of ours can move: a dense float32 product of NumPy's own library."""
CONTROL_SIZE = 768


def kernel_name(path: str, n: int, k: int, m: int) -> str:
    """Return how reports call one INT4 linear, y[m, n] = x[m, k] W^T."""
    return f"{path} {n}x{k} m{m}"


def main() -> None:
    """Serve one request."""
    request = json.load(sys.stdin)
    json.dump(answer(request), sys.stdout)


def answer(request: Mapping[str, Any], clock: Callable[[], int] = time.perf_counter_ns) -> Any:
    """Time every cell of a request and return what is printed."""
    from edgebench import __version__

    work = _contenders(request)
    calls: dict[str, int] = dict(request.get("calls") or {})
    extra = request.get("extra") or {}
    for name, run in work.items():
        if name not in calls:
            calls[name] = _calibrate(run, WHOLE_CALLS if name in extra else 1, clock)
    times: dict[str, list[float]] = {name: [] for name in work}
    for block in range(WARM_BLOCKS + max(BLOCKS, LONG_ENOUGH // len(work))):
        for name, run in work.items():
            count = calls[name]
            done = count + round(count * extra.get(name, 0.0))
            start = clock()
            for _ in range(done):
                run()
            if block >= WARM_BLOCKS:
                times[name].append((clock() - start) / count)
    return {
        "version": __version__,
        "times_ns": {name: min(own) for name, own in times.items()},
        "calls": calls,
    }


def _calibrate(run: Callable[[], object], multiple: int, clock: Callable[[], int]) -> int:
    """Return how many calls make a block; the same count then serves every process."""
    run()
    start = clock()
    for _ in range(5):
        run()
    per_call = max((clock() - start) / 5, 1.0)
    return multiple * max(1, round(BLOCK_NS / per_call / multiple))


def _contenders(request: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    import numpy as np

    from edgebench_kernels import native
    from edgebench_kernels.packing import PackedInt4, linear
    from edgebench_kernels.race.cases import random_activations, random_tensor

    if request.get("threads"):
        native.set_threads(request["threads"])
    work: dict[str, Callable[[], object]] = {}
    for fields in request["cells"]:
        path, n, k, m = (fields[name] for name in ("path", "n", "k", "m"))
        packed = PackedInt4(random_tensor(n, k, 64))
        x = random_activations(m, k)
        work[kernel_name(path, n, k, m)] = partial(linear, packed, x, path)
    draw = np.random.default_rng(0)
    dense = draw.standard_normal((CONTROL_SIZE, CONTROL_SIZE), dtype=np.float32)
    vector = draw.standard_normal(CONTROL_SIZE, dtype=np.float32)
    work[CONTROL] = lambda: dense @ vector
    return work


if __name__ == "__main__":
    main()
