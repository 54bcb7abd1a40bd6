"""How the kernels of a single-stream run take turns: the queries of a block, and how many blocks.

A plan and its forecast both follow from here. A size comes back from the rows of block 0, so that a
resumed run plans what it began.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from edgebench.profiles import (
    MANY_PAIRED_BLOCKS,
    MIN_BLOCK_S,
    MIN_PAIRED_BLOCKS,
    SHORT_BLOCK_S,
    Counts,
)
from edgebench.units import NS_PER_S

PROBE_CAUTION = 1.25  # answers differ in length; blocks too short would starve a power meter


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPolicy:
    """What a profile and the meters ask of the blocks.

    Raises ValueError for a run of no queries.
    """

    queries: int
    """Of each kernel, at least."""
    is_counted: bool
    """Whether a count of queries ends the run; else measured time does."""
    each_lasts: bool
    """Whether a block lasts on the fastest kernel too: a power meter reads it, or that kernel goes
    on alone. Else on the slowest: what both meet alike cancels in their ratio."""

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"[blocks] expected queries, got {self.queries}")

    @property
    def turns(self) -> int:
        """How many blocks a kernel runs at least, an even number: ABBA is balanced in twos."""
        return MIN_PAIRED_BLOCKS if self.each_lasts else MANY_PAIRED_BLOCKS

    def size(self, per_query_ns: Collection[float]) -> int:
        """How many queries a block holds, from every kernel's probed time of one.

        Enough to last 2 s on the fastest, or half a second on the slowest; where a count ends the
        run, as many such blocks as fit share its queries. ValueError where a time is not above 0.
        """
        block_s, pick = (MIN_BLOCK_S, min) if self.each_lasts else (SHORT_BLOCK_S, max)
        paced_by_ns = pick(per_query_ns, default=0)
        if paced_by_ns <= 0:
            raise ValueError(f"[blocks] expected queries that take time, got {per_query_ns} ns")
        lasting = math.ceil(block_s * NS_PER_S * PROBE_CAUTION / paced_by_ns)
        if not self.is_counted:
            return lasting
        fit = self.queries // lasting
        return max(lasting, math.ceil(self.queries / max(self.turns, fit - fit % 2)))

    def spans(self, size: int) -> list[range]:
        """Cut a counted run into blocks of one size: so many queries and turns at least."""
        fit = math.ceil(self.queries / size)
        blocks = max(self.turns, fit + fit % 2)
        return [range(number * size, (number + 1) * size) for number in range(blocks)]


def block_policy(counts: Counts, *, is_metered: bool) -> BlockPolicy:
    """The policy of a profile's counts."""
    return BlockPolicy(
        queries=counts.min_queries,
        is_counted=counts.min_duration_s == 0,
        each_lasts=counts.blocks_each_last(is_metered=is_metered),
    )
