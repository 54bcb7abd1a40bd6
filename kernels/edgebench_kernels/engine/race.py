"""Which operations run fastest between an engine's linears, measured on the engine itself.

torch's linears keep their threads spinning for milliseconds after each product, so that the
kernels' own pool may be slower beside them than one thread alone, or than torch. The reference
takes the fastest, so that no speed-up of INT4 is owed to what surrounds its linears.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from edgebench_kernels.engine.arithmetic import OpsChoice, OpsName
from edgebench_kernels.engine.model import Engine

ROUNDS = 5
COLUMNS = 64
"""Cached tokens of a timed step, if the cache holds as many."""
BUDGET_NS = 1_000_000_000
"""Time for one regime: after it no new round begins."""


def fastest_ops(engine: Engine) -> OpsChoice:
    """Race the operations at one row and at a full batch, let the engine use the fastest.

    What was cached is lost. An engine that holds one row of one token is left as it is.
    """
    columns = min(COLUMNS, engine.max_length - 1)
    if columns < 1:
        return engine.ops
    single = _race(engine, lambda: _decode(engine, 1, columns))
    if engine.max_batch > 1:
        many = _race(engine, lambda: _decode(engine, engine.max_batch, columns))
    else:
        ids = torch.zeros(1, columns, dtype=torch.long)
        many = _race(engine, lambda: engine.prefill(ids, [columns]))
    engine.use_ops(OpsChoice(single=single, many=many))
    return engine.ops


def _decode(engine: Engine, batch: int, columns: int) -> None:
    """A decode step on a cache of whatever it holds: speed does not depend on it."""
    engine.cache.reset([columns] * batch)
    engine.decode(torch.zeros(batch, dtype=torch.long))


def _race(engine: Engine, step: Callable[[], object]) -> OpsName:
    """The fastest of interleaved rounds; what disturbs one only slows it."""
    best = dict.fromkeys(engine.available_ops, math.inf)
    deadline = time.perf_counter_ns() + BUDGET_NS
    for _ in range(ROUNDS):
        for name in best:
            engine.use_ops(name)
            step()  # the one before leaves caches and threads in its own state
            begin = time.perf_counter_ns()
            step()
            best[name] = min(best[name], time.perf_counter_ns() - begin)
        if time.perf_counter_ns() > deadline:
            break
    return min(best, key=best.__getitem__)
