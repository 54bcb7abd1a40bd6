"""Blocks last long enough, and there are enough of them for an interval."""

from __future__ import annotations

import pytest

from edgebench.block_policy import PROBE_CAUTION, BlockPolicy, block_policy
from edgebench.profiles import PROFILES
from edgebench.stats import median_confidence_interval


def policy(queries: int, *, each_lasts: bool = True, is_counted: bool = True) -> BlockPolicy:
    return BlockPolicy(queries=queries, is_counted=is_counted, each_lasts=each_lasts)


def lasting(per_block: int) -> list[float]:
    """The time of a query of which so many fill 2 s, a probe's caution included."""
    return [2e9 * PROBE_CAUTION / per_block]


@pytest.mark.parametrize(
    ("count", "per_block", "sizes"),
    [
        (512, 100, [100] * 6),  # five would fit: more queries, that six pairs give an interval
        (512, 80, [86] * 6),  # six
        (512, 70, [86] * 6),  # seven would fit, and six balance
        (128, 7, [8] * 16),
        (128, 1, [1] * 128),  # every query outlasts a block
        (10, 9, [9] * 6),
        (1, 1, [1] * 6),
    ],
)
def test_a_counted_run_takes_turns_six_times_at_least(
    count: int, per_block: int, sizes: list[int]
) -> None:
    counted = policy(count)
    blocks = counted.spans(counted.size(lasting(per_block)))
    assert [len(block) for block in blocks] == sizes
    assert [position for block in blocks for position in block] == list(range(sum(sizes)))


def test_a_block_lasts_on_the_slowest_or_on_each() -> None:
    times = (20e6, 5e6)
    # 0.63 s: probes may have been slow
    assert policy(1, each_lasts=False, is_counted=False).size(times) == 32
    assert policy(1, is_counted=False).size(times) == 500
    assert policy(1, is_counted=False).size([30e9]) == 1
    for each_lasts in (True, False):
        turns = policy(1, each_lasts=each_lasts).turns
        assert median_confidence_interval(range(turns)) is not None
        assert turns % 2 == 0


@pytest.mark.parametrize("count", [7, 64, 128, 512])
def test_a_resumed_run_keeps_the_blocks_that_are_done(count: int) -> None:
    """The size comes back from the rows of block 0, and gives the same blocks."""
    short = policy(count, each_lasts=False)
    for per_block in range(1, count + 1):
        planned = short.spans(short.size([0.5e9 * PROBE_CAUTION / per_block]))
        assert short.spans(len(planned[0])) == planned
        assert planned[-1].stop >= count
        assert len(planned) % 2 == 0


@pytest.mark.parametrize("times", [[], [0.0], [5.0, -1.0]])
def test_queries_must_take_time(times: list[float]) -> None:
    with pytest.raises(ValueError, match="expected queries that take time"):
        policy(5).size(times)


def test_there_must_be_queries() -> None:
    with pytest.raises(ValueError, match="expected queries, got 0"):
        policy(0)


def test_a_meter_or_measured_time_needs_blocks_that_last_on_every_kernel() -> None:
    quick = PROFILES["quick"].counts("assistant", "single-stream")
    official = PROFILES["official"].counts("assistant", "single-stream")
    assert not block_policy(quick, is_metered=False).each_lasts
    assert block_policy(quick, is_metered=True).each_lasts
    assert block_policy(official, is_metered=False).each_lasts
    assert block_policy(quick, is_metered=False).is_counted
    assert not block_policy(official, is_metered=False).is_counted
