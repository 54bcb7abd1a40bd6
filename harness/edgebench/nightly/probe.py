"""The probe: a fresh process that times a suite's kernels whenever it is asked, and imports little.

Lines of JSON on stdin, each answered by one on stdout. After the request every line asks for a
sweep: one block of calls of each cell, timed; the end of stdin is its own. Head's text of this file
runs in the baseline's environment too, so that one yardstick measures both.

    {"cells": [{"path", "n", "k", "m"}], "calls": {name: int} | null, "extra": {name: float},
     "threads": int | null}       -> {"version": str, "calls": {name: int}}
    any line                      -> {name: ns per call}

`extra` is the self-test's: a fraction of more calls that are made and not counted as calls, so a
planted slow-down is real work and no edited number.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

BLOCK_NS = 1_000_000  # of one timed block: long against the clock, short against a time slice
WHOLE_CALLS = 100  # a self-test's block is a multiple, so that 1 % more work is whole calls
CONTROL = "control"
"""The cell that no change of ours can move: a dense float32 product of NumPy's own library."""
CONTROL_SIZE = 768


def kernel_name(path: str, n: int, k: int, m: int) -> str:
    """Return how reports call one INT4 linear, y[m, n] = x[m, k] W^T."""
    return f"{path} {n}x{k} m{m}"


def main() -> None:
    """Serve one request and its sweeps."""
    for said in answers(sys.stdin):
        print(json.dumps(said), flush=True)


def answers(
    asked: Iterable[str], clock: Callable[[], int] = time.perf_counter_ns
) -> Iterator[Mapping[str, Any]]:
    """Yield what each line is answered."""
    from edgebench import __version__

    lines = iter(asked)
    request = json.loads(next(lines))
    work = _contenders(request)
    calls: dict[str, int] = dict(request.get("calls") or {})
    extra = request.get("extra") or {}
    for name, run in work.items():
        if name not in calls:
            calls[name] = _calibrate(run, WHOLE_CALLS if name in extra else 1, clock)
    yield {"version": __version__, "calls": calls}
    for _ in lines:
        times: dict[str, float] = {}
        for name, run in work.items():
            count = calls[name]
            done = count + round(count * extra.get(name, 0.0))
            start = clock()
            for _ in range(done):
                run()
            times[name] = (clock() - start) / count
        yield times


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
