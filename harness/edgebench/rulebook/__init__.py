"""The rules as small objects, family by family; `edgebench.rules` is the door to them."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.rulebook import (
    duration,
    external,
    numbers,
    power,
    quality,
    roofline,
    structure,
    weights,
)
from edgebench.rulebook.rule import AppliesTo, Rule, Severity

__all__ = ["FAMILIES", "RULES", "AppliesTo", "Rule", "Severity"]

FAMILIES: Mapping[str, tuple[str, tuple[Rule, ...]]] = {
    "S": ("Structure: the bundle is what it says it is", structure.RULES),
    "N": ("Numbers: every published number follows from the raw rows", numbers.RULES),
    "D": ("Duration and schedule: enough was measured, in the agreed order", duration.RULES),
    "Q": ("Quality: the answers are right, and are the same answers", quality.RULES),
    "W": ("Weights: where they come from and what was done to them", weights.RULES),
    "R": ("Roofline: no kernel beats the machine", roofline.RULES),
    "P": ("Power: energy is measured or absent", power.RULES),
    "E": ("External engines: what nobody can look into says that it is one", external.RULES),
}
"""By the letter that opens a rule's id: the family's title and its rules."""

RULES: Mapping[str, Rule] = {rule.id: rule for _, rules in FAMILIES.values() for rule in rules}
