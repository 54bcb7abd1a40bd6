"""Holds a latency table against whole networks: scaled to those timed, judged on the held out.

Blocks are timed inside uniform networks and networks are of mixed ones, so a part of every pass is
counted too often or not at all. By resolution the fixed part and the sum of the blocks get a factor
each, neither negative and both held near one, so that the relative errors of whole passes are least
(non-negative least squares, Lawson and Hanson 1974).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from edgebench.subnet_record import LatencyTable
from edgebench.transform.nas_table import key_of, predicted_ns
from edgebench_workloads.wake.genome import Genome

HELD = 0.2
"""How much a factor's distance from one weighs beside a relative error: fixed part and blocks vary
together, so that few networks alone do not tell them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One network and what a pass through it takes."""

    genome: Genome
    latency_ns: float


def fitted(table: LatencyTable, seen: Sequence[Timed]) -> LatencyTable:
    """A table whose every resolution is scaled to the networks seen."""
    fixed, blocks = dict(table.fixed_ns), dict(table.block_ns)
    for resolution in fixed:
        own = [one for one in seen if str(one.genome.resolution) == resolution]
        rows = np.array([_row(table, one.genome) for one in own], dtype=float)
        took = np.array([one.latency_ns for one in own])
        relative = np.vstack([rows / took[:, None], HELD * np.eye(2)])
        (base, factor), _ = nnls(relative, np.array([*np.ones(len(own)), HELD, HELD]))
        fixed[resolution] = round(base * table.fixed_ns[resolution])
        for key in blocks:
            if key.startswith(f"{resolution}/"):
                blocks[key] = round(factor * table.block_ns[key])
    return table.model_copy(update={"fixed_ns": fixed, "block_ns": blocks})


def judged(table: LatencyTable, unseen: Sequence[Timed]) -> LatencyTable:
    """The same table with its errors on networks that it was not fitted to."""
    errors = [abs(predicted_ns(table, one.genome) / one.latency_ns - 1) for one in unseen]
    return table.model_copy(
        update={
            "held_out": len(errors),
            "held_out_median_error": statistics.median(errors),
            "held_out_worst_error": max(errors),
        }
    )


def _row(table: LatencyTable, genome: Genome) -> tuple[int, int]:
    """The fixed part and the sum of the blocks, as the table has them."""
    blocks = sum(table.block_ns[key_of(genome.resolution, *block)] for block in genome.blocks())
    return table.fixed_ns[str(genome.resolution)], blocks
