"""Shares: accuracies of two sides, judged by the binomial interval of their difference."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.audit.case import Case
from edgebench.audit.intervals import Interval, difference
from edgebench.audit.judgement import Measure, absent

CLAIM = "accuracy, claimed - here"


def accuracy_drop(what: str, drop: Interval) -> Measure:
    """Caught where the whole binomial interval of a loss of accuracy lies above 0."""
    return Measure(
        what=what,
        verdict="caught" if drop.low > 0 else "passed",
        value=drop.value,
        interval=(drop.low, drop.high),
        limit="interval reaches 0",
    )


def claimed_accuracy(case: Case, here: Mapping[int, tuple[int, ...]]) -> Measure:
    """Hold the outputs that the bundle filed against those of here, by how many are right.

    Rounding flips an answer now and then on another machine or path, which no interval minds; so
    this stands where outputs themselves cannot be compared. The same samples count on both sides;
    where none is shared, all that were claimed.
    """
    filed = case.claimed.outputs
    if not filed or not here:
        return absent(CLAIM, "the bundle has no outputs of this kernel" if here else "none ran")
    is_right = case.scored.answers.is_right
    shared = here.keys() & filed.keys()
    sides = [
        [is_right(sample, ids) for sample, ids in one.items() if sample in shared or not shared]
        for one in (filed, here)
    ]
    claimed, found = ((sum(side), len(side)) for side in sides)
    return accuracy_drop(CLAIM, difference(claimed, found))
