"""Power: energy is measured or absent."""

from __future__ import annotations

from edgebench.rulebook.rule import Rule

RULES = (
    Rule(
        id="P-01",
        title="Energy follows from power.csv",
        text="Joules, mean power and coverage are integrated again over each kernel's own blocks "
        "and must be equal.",
        why="No published number is taken on trust.",
        source="docs/design.md §8",
        what_to_do="do not edit record.json; run again",
        checks=("checker.power.check_energy",),
    ),
    Rule(
        id="P-02",
        title="Unmeasured is absent",
        text="Unmeasured energy has null joules, power and coverage, and a reason; measured energy "
        "names its meter and domain.",
        why="A zero would win every efficiency table.",
        source="docs/design.md §8",
        what_to_do="do not fill in numbers by hand",
        checks=("checker.power.check_absence",),
    ),
)
