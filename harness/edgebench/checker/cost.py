"""Costs on paper: they follow from the graph and from the recipe's groups."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.checker.recipe import read_recipe
from edgebench.checker.subject import Subject
from edgebench.derive import REFERENCE
from edgebench.errors import BundleError
from edgebench.findings import Finding, finding
from edgebench.images.cost import cost_of
from edgebench.transform import TRANSFORMS


def check_costs(subject: Subject) -> Iterator[Finding]:
    """N-04: parameters, multiply-accumulates, bytes and peak memory of a model of images."""
    genome, record = subject.workload.genome, subject.bundle.record
    for result in record.results:
        expected = None
        if genome is not None:
            try:
                groups = {} if result.kernel == REFERENCE else _groups(subject)
            except BundleError:
                return  # W-07 says so
            own = None if result.kernel == REFERENCE else subject.open_genome
            is_int8 = bool(groups and subject.bundle.ledger.convolutions)
            expected = cost_of(own or genome, groups, is_int8=is_int8)
        if result.cost != expected:
            yield finding("N-04", f"{result.kernel} cost = {expected}", result.cost)


def _groups(subject: Subject) -> dict[str, int]:
    """The group of every quantized layer, by the ledger's recipe."""
    shapes = subject.candidate_shapes
    ledger = subject.bundle.ledger
    steps = [step for step in ledger.steps if TRANSFORMS.get(step.transform) != "change"]
    if not steps:
        return {}
    try:
        recipe = read_recipe(steps)
        return {name: recipe.group_of(k) for name, (_, k) in shapes.items()}
    except (KeyError, ValueError) as err:
        raise BundleError(f"[ledger] expected a recipe with groups: {err}") from err
