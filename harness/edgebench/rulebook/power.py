"""Power: energy is measured or absent."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import Rule

RULES = (
    Rule(
        id="P-01",
        title="Energy follows from power.csv",
        text="Joules, mean power and coverage are integrated again over each kernel's own blocks "
        "and must be equal; so are method, error bound, peak and idle power where they are stated.",
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
    Rule(
        id="P-03",
        title="Meters that disagree are shown",
        text="Two meters of the same thing that differ by over "
        f"{100 * p.METER_DISAGREEMENT:.0f} % in mean power are both in the record.",
        why="A counter and a power reading of one GPU can be far apart, and either may be right.",
        source="docs/design.md §8",
        what_to_do="run longer, or measure with an external meter",
        severity="warning",
        checks=("checker.power.check_agreement",),
    ),
    Rule(
        id="P-04",
        title="Energy metrics follow from energy and rows",
        text="Joules per query, sample and token, tokens per joule, energy times delay and the "
        "phases' energy are derived again and must be equal.",
        why="No published number is taken on trust.",
        source="docs/design.md §8",
        what_to_do="do not edit record.json; run again",
        checks=("checker.power.check_energy",),
    ),
    Rule(
        id="P-05",
        title="Idle is idle",
        text="No query runs inside the windows that idle power is taken from.",
        why="Work in the baseline makes the energy above idle too small.",
        source="docs/design.md §8",
        what_to_do="run again",
        checks=("checker.power.check_idle",),
    ),
)
