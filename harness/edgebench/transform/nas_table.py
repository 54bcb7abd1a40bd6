"""The latency table as predictions read it: a sum over blocks, and a part that is always there."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.subnet_record import LatencyTable
from edgebench_workloads.wake.genome import DEPTHS, EXPANSIONS, KERNELS, Genome, make_genome

Choice = tuple[int, int]
"""Kernel and expansion."""


def key_of(resolution: int, stage: int, place: int, kernel: int, expansion: int) -> str:
    """How the table calls one block at one place with one choice."""
    return f"{resolution}/{stage}.{place}/k{kernel}e{expansion}"


def predicted_ns(table: LatencyTable, genome: Genome) -> int:
    """What one image takes, by the table; KeyError where it lacks a choice."""
    return table.fixed_ns[str(genome.resolution)] + sum(
        table.block_ns[key_of(genome.resolution, *block)] for block in genome.blocks()
    )


def cheapest(
    table: LatencyTable,
    *,
    resolutions: Sequence[int],
    depths: Sequence[int] = DEPTHS,
    kernels: Sequence[int] = KERNELS,
    expansions: Sequence[int] = EXPANSIONS,
) -> Genome:
    """The fastest subnet of a space by the table: every block takes time, so it is shallow."""
    choices = [(kernel, expansion) for kernel in kernels for expansion in expansions]

    def fastest(resolution: int) -> Genome:
        def at(stage: int, place: int) -> Choice:
            return min(choices, key=lambda c: table.block_ns[key_of(resolution, stage, place, *c)])

        small = make_genome(
            min, resolutions=[resolution], depths=depths, kernels=kernels, expansions=expansions
        )
        chosen = [
            [at(stage, place) if place < depth else (0, 0) for place in range(len(row))]
            for stage, (depth, row) in enumerate(zip(small.depths, small.kernels, strict=True))
        ]
        return Genome(
            resolution=resolution,
            depths=small.depths,
            kernels=tuple(tuple(k for k, _ in row) for row in chosen),
            expansions=tuple(tuple(e for _, e in row) for row in chosen),
        )

    return min(map(fastest, resolutions), key=lambda genome: predicted_ns(table, genome))
