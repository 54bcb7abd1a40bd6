"""Power: energy is measured or absent."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import CLOSED, OPEN, Rule

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
        "names its meter and domain; where no energy names a meter, power.csv is its header alone.",
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
    Rule(
        id="P-06",
        title="Nothing held the machine back",
        text="While blocks ran there was no thermal or power-brake slowdown, no active cooling "
        "device of CPU or GPU, no over-current event, no other process on the GPU, and no change "
        "of the power mode. The numbers are kept.",
        why="A throttled number is one of the room's temperature.",
        source="docs/design.md §8",
        what_to_do="cool it, check supply and fan, end other work; `bench doctor`; run again",
        applies_to=CLOSED,
        checks=("checker.power.check_conditions",),
    ),
    Rule(
        id="P-07",
        title="What held the machine back is shown",
        text="As P-06, as a warning.",
        why="The open track reports what a machine does, and a reader should know why.",
        source="docs/design.md §8",
        what_to_do="cool it, check supply and fan, end other work; `bench doctor`; run again",
        applies_to=OPEN,
        severity="warning",
        checks=("checker.power.check_conditions",),
    ),
    Rule(
        id="P-08",
        title="How the machine was set is shown",
        text="Warned of are: the power limit being reached, a median GPU clock below "
        f"{100 * p.CLOCK_SHARE:.0f} % of what is allowed, a governor other than performance, "
        "jetson_clocks being off, and a load before the run of over "
        f"{p.LOAD_PER_CORE:g} for each core.",
        why="None of these makes a number wrong, and each makes it another machine's.",
        source="docs/design.md §8",
        what_to_do="`bench doctor` names the command that changes it",
        severity="warning",
        checks=("checker.power.check_conditions",),
    ),
    Rule(
        id="P-09",
        title="Cold and sustained rates follow from the rows",
        text=f"In a run of over {p.SUSTAINED_MIN_S:g} s the samples per second of its first "
        f"{p.COLD_S:g} s and of its last {p.SUSTAINED_S:g} s are derived again and must be equal.",
        why="A machine that is fast for a minute is not a fast machine.",
        source="docs/design.md §8",
        what_to_do="do not edit record.json; run again",
        checks=("checker.power.check_sustained",),
    ),
    Rule(
        id="P-10",
        title="Unseen conditions are shown",
        text="A record without the machine's conditions, as older versions wrote, is warned of: "
        "P-06 to P-08 then judge nothing.",
        why="Silence must not pass for a machine that nothing held back.",
        source="docs/design.md §8",
        what_to_do="run again with this version",
        severity="warning",
        checks=("checker.power.check_conditions",),
    ),
)
