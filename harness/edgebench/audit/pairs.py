"""Pairs: the same query under two conditions, as ratios with the block that each ran in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from edgebench.audit.intervals import Interval, bootstrap_median
from edgebench.audit.library import Library
from edgebench.audit.runs import Query

Timed = Callable[[Query], "float | None"]
Key = tuple[int, tuple[int, ...]]


def latency(query: Query) -> float | None:
    """Issue to last completion, in ns."""
    return query.latency_ns


def first_token(query: Query) -> float | None:
    """Issue to first token, in ns."""
    return query.ttft_ns


def per_token(query: Query) -> float | None:
    """Time per output token after the first, in ns; None where there is none."""
    return query.tpot_ns


def whole_and_first(library: Library) -> list[tuple[str, Timed]]:
    """The times of answers that are as long as one another: the whole, and the first token."""
    whole: list[tuple[str, Timed]] = [("latency", latency)]
    return [*whole, ("first token", first_token)] if library.is_streamed else whole


def by_phase(library: Library, *, is_alone: bool = True) -> list[tuple[str, Timed]]:
    """The times that do not depend on how many tokens an answer has.

    is_alone: a query is one sample; the rows of a batch end at other steps, and cost otherwise.
    """
    if not library.is_streamed:
        return [("latency", latency)]
    phases: list[tuple[str, Timed]] = [("first token", first_token)]
    return [*phases, ("time per token", per_token)] if is_alone else phases


def ratio(
    above: Sequence[Query], below: Sequence[Query], timed: Timed, seed: int
) -> Interval | None:
    """The median of above / below over queries of the same samples, with its interval.

    A query that ran several times in a round counts with its median. None with too few pairs.
    """
    tops, bottoms = _by_key(above, timed), _by_key(below, timed)
    blocks = {query.key: query.block for query in reversed(below)}
    shared = [key for key in bottoms if key in tops and bottoms[key] > 0]
    return bootstrap_median(
        [tops[key] / bottoms[key] for key in shared], [blocks[key] for key in shared], seed
    )


def matched_ratio(
    above: Sequence[tuple[int, Query]],
    below: Sequence[tuple[int, Query]],
    timed: Timed,
    seed: int,
) -> Interval | None:
    """As `ratio`, of different samples, each query given with the length of its prompt.

    Every query above meets the one below that is nearest in length, and in time among those; each
    below is met once.
    """
    values, clusters, free = [], [], list(below)
    for length, query in above:
        if not free:
            break
        met = min(free, key=lambda one: (abs(one[0] - length), abs(one[1].block - query.block)))
        free.remove(met)
        top, bottom = timed(query), timed(met[1])
        if top is not None and bottom is not None and bottom > 0:
            values.append(top / bottom)
            clusters.append(query.block)
    return bootstrap_median(values, clusters, seed)


def _by_key(queries: Sequence[Query], timed: Timed) -> dict[Key, float]:
    times: dict[Key, list[float]] = {}
    for query in queries:
        value = timed(query)
        if value is not None:
            times.setdefault(query.key, []).append(value)
    return {key: statistics.median(values) for key, values in times.items()}
