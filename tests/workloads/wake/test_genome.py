"""A genome that was cut: its widths go through JSON, into every layer, and have limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgebench_workloads.wake.costs import total_macs, total_parameters
from edgebench_workloads.wake.genome import LARGEST, SMALLEST, genome_from_json, layers

WHOLE = tuple(SMALLEST.expanded(stage) for stage in range(3))
HALF = tuple(tuple(one // 2 for one in row) for row in WHOLE)


def test_widths_are_expansions_where_nothing_was_cut() -> None:
    assert WHOLE == ((24, 48, 0, 0), (48, 96, 0, 0), (96, 192, 0, 0))
    whole = replace(SMALLEST, middles=WHOLE)
    assert layers(whole) == layers(SMALLEST)
    assert "middles" not in SMALLEST.as_json()


def test_a_cut_goes_into_layers_and_costs_and_through_json() -> None:
    cut = replace(SMALLEST, middles=HALF)
    assert genome_from_json(cut.as_json()) == cut
    by_name = {layer.name: layer for layer in layers(cut)}
    assert by_name["stages.1.0.expand"].outputs == 24
    assert by_name["stages.1.0.depthwise"].groups == 24
    assert by_name["stages.1.0.project"].inputs == 24
    assert by_name["stages.1.1.expand"].inputs == 32
    assert total_macs(cut) < total_macs(SMALLEST)
    assert total_parameters(cut) < total_parameters(SMALLEST)


@pytest.mark.parametrize(
    "middles",
    [
        WHOLE[:2],
        ((25, 48, 0, 0), *WHOLE[1:]),
        ((0, 48, 0, 0), *WHOLE[1:]),
        ((24, 48, 8, 0), *WHOLE[1:]),
        ((-8, 48, 0, 0), *WHOLE[1:]),
        ((24, 48), *WHOLE[1:]),
    ],
)
def test_widths_that_no_cut_leaves_are_refused(middles: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="expected middle channels of at most"):
        replace(SMALLEST, middles=middles)
    found = SMALLEST.as_json() | {"middles": [list(row) for row in middles]}
    with pytest.raises(ValueError, match="expected middle channels"):
        genome_from_json(found)


def test_a_subnet_has_the_channels_of_the_next_stage_in_front() -> None:
    assert LARGEST.expanded(1) == (96, 192, 192, 192)
