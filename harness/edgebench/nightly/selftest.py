"""`bench selftest`: known slow-downs, planted blind, and how many of them the detector calls.

Every round draws, from its seed, what it plants in each cell: nothing, 2, 5 or 10 % more work, 5 %
less, or only more variance. The extra work is really done, by one arm of one version. The detector
gets times and nothing else; labels are joined to its verdicts afterwards. Finished rounds are
appended to a file, so that an interrupted self-test goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from edgebench.codec import append_synced, encode_row, make_folder, parse_rows
from edgebench.errors import BundleError
from edgebench.nightly import session
from edgebench.nightly.creep import find_creep
from edgebench.nightly.history import HistoryRow
from edgebench.nightly.session import Outcome, Session
from edgebench.nightly.suite import KernelCell
from edgebench.paired import Verdict, false_discoveries_held, log_ratio, p_value, percent
from edgebench.progress import Progress
from edgebench.record import Count, StrictModel, Text

Plant = Literal["none", "+2 %", "+5 %", "+10 %", "-5 %", "variance", "bad night", "creep"]
RoundKind = Literal["aa", "planted", "bad night", "creep"]
Extra = Mapping[str, float]
"""Cell to time -> fraction of extra work."""
Probe = Callable[[bool, Extra, Extra], Mapping[str, float]]
"""(whether head goes first, the baseline's extra, head's) -> cell -> ln(head / baseline).

Each call is a pair of fresh processes."""

EXTRA: Mapping[str, float] = {"+2 %": 0.02, "+5 %": 0.05, "+10 %": 0.10, "-5 %": -0.05}
VARIANCE = 0.10  # of either sign, drawn for every process of the planted arm
PLANTS: tuple[Plant, ...] = ("none", "+2 %", "+5 %", "+10 %", "-5 %", "variance")
BAD_SHARE, BAD_EXTRA = 0.3, 0.25  # processes of a bad night, of both arms, and what slows them
CREEP_NIGHTS, CREEP_STEP = 10, 0.01  # a night adds a percent: 10 % in ten nights
LOOKS = (8, 16, 32)
FALSE_DISCOVERIES = 0.01  # as a suite has it: an alarm must survive ten cells
ALARMS: Mapping[str, tuple[Verdict, ...]] = {"slow": ("SLOWER",), "any": ("SLOWER", "FASTER")}
CELLS: tuple[KernelCell, ...] = tuple(
    KernelCell(path=path, n=n, k=k, m=m)  # type: ignore[arg-type]  # literal below
    for path, n, k, m in (
        ("w4a16", 256, 512, 1), ("w4a16", 512, 512, 1), ("w4a16", 512, 1024, 1),
        ("w4a16", 1024, 512, 1), ("w4a16", 1024, 1024, 1), ("w4a8", 256, 512, 1),
        ("w4a8", 512, 512, 4), ("w4a8", 512, 1024, 1), ("w4a8", 1024, 512, 4),
        ("w4a8", 1024, 1024, 1),
    )
)  # fmt: skip


class RoundRow(StrictModel):
    """One cell of one finished round: what was planted, and what the detector said."""

    round: Count
    kind: RoundKind
    cell: Text
    plant: Plant
    verdict: Verdict
    change_percent: float | None
    pairs: Count
    limit_percent: float = Field(gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something was called, with Clopper and Pearson's one-sided 95 % bounds."""

    plant: str
    called: int
    of: int
    lower: float
    upper: float
    mean_pairs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many rounds of each kind, and from which seed."""

    aa: int = 48
    planted: int = 40
    bad_nights: int = 2
    creeps: int = 1
    seed: int = 0
    limit_percent: float = 5.0
    looks: Sequence[int] = LOOKS

    @property
    def rounds(self) -> list[RoundKind]:
        """The kinds in order; a creep is one round of ten nights."""
        counts: tuple[tuple[RoundKind, int], ...] = (
            ("aa", self.aa),
            ("planted", self.planted),
            ("bad night", self.bad_nights),
            ("creep", self.creeps),
        )
        return [kind for kind, count in counts for _ in range(count)]


def run_selftest(
    plan: Plan, cells: Sequence[str], probe: Probe, kept: Path, progress: Progress
) -> list[RoundRow]:
    """Run what is missing of a plan, appending every finished round; return all rows.

    BundleError where the file of finished rounds is not one of ours, or of another plan.
    """
    make_folder(kept.parent)
    rows = read_rounds(kept)
    done = {row.round for row in rows}
    for row in rows:
        if row.round >= len(plan.rounds) or plan.rounds[row.round] != row.kind:
            raise BundleError(
                f"[{kept.name}] expected the rounds of this plan, got round {row.round} of kind "
                f"{row.kind!r}; name another --out"
            )
    with progress.stage("rounds") as update:
        for number, kind in enumerate(plan.rounds):
            update(number, len(plan.rounds))
            if number not in done:
                own = _round(plan, number, kind, cells, probe)
                append_synced(kept, b"".join(encode_row(row) for row in own))
                rows += own
    return rows


def read_rounds(kept: Path) -> list[RoundRow]:
    """Return the finished rounds; BundleError names a broken line."""
    if not kept.exists():
        return []
    return list(parse_rows(RoundRow, kept.read_bytes(), kept.name, 1_000_000))


def _round(
    plan: Plan, number: int, kind: RoundKind, cells: Sequence[str], probe: Probe
) -> list[RoundRow]:
    draw = random.Random(f"{plan.seed} {number}")
    if kind == "creep":
        return _creep(plan, number, cells, probe)
    plants: dict[str, Plant] = {}
    for cell in cells:
        plants[cell] = draw.choice(PLANTS) if kind == "planted" else "none"
    shown = {cell: "bad night" if kind == "bad night" else plants[cell] for cell in cells}
    found = _session(plan, cells, _planted(plants, draw, probe, is_bad=kind == "bad night"))
    outcomes = [own for own in found.outcomes if own.cell in cells]
    held = false_discoveries_held([p_value(own.ratios) for own in outcomes], FALSE_DISCOVERIES)
    return [
        _row(number, kind, shown[own.cell], own, is_held=is_held)
        for own, is_held in zip(outcomes, held, strict=True)
    ]


def _planted(
    plants: Mapping[str, Plant], draw: random.Random, probe: Probe, *, is_bad: bool
) -> Callable[[bool, Sequence[str]], Mapping[str, float]]:
    """Return a measure of a round: the planted arm does its extra work, and nobody says which."""

    def work_of(plant: Plant) -> float:
        is_spread = plant == "variance"
        return draw.choice((-VARIANCE, VARIANCE)) if is_spread else EXTRA.get(plant, 0.0)

    def measure(is_head_first: bool, wanted: Sequence[str]) -> Mapping[str, float]:
        sides = dict.fromkeys(wanted, 0.0), {cell: work_of(plants[cell]) for cell in wanted}
        more = [BAD_EXTRA if is_bad and draw.random() < BAD_SHARE else 0.0 for _ in sides]
        baseline, head = (
            {cell: own + extra for cell, own in side.items()}
            for side, extra in zip(sides, more, strict=True)
        )
        return probe(is_head_first, baseline, head)

    return measure


def _session(
    plan: Plan,
    cells: Sequence[str],
    measure: Callable[[bool, Sequence[str]], Mapping[str, float]],
    looks: Sequence[int] | None = None,
) -> Session:
    limits = dict.fromkeys(cells, log_ratio(plan.limit_percent))
    rules = session.Plan(
        looks=looks or plan.looks, budget_s=float("inf"), alarm_p=FALSE_DISCOVERIES / len(cells)
    )
    return session.run_session(measure, limits, rules)


def _creep(plan: Plan, number: int, cells: Sequence[str], probe: Probe) -> list[RoundRow]:
    """Ten nights of eight pairs, each a percent slower; the creep detector sees their estimates."""
    nights: dict[str, list[HistoryRow]] = {cell: [] for cell in cells}
    for night in range(CREEP_NIGHTS):
        step = CREEP_STEP * (night + 1)

        def measure(is_head_first: bool, wanted: Sequence[str], step: float = step) -> Any:
            plain, slow = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, step)
            return probe(is_head_first, plain, slow)

        for own in _session(plan, cells, measure, looks=plan.looks[:1]).outcomes:
            if own.cell in nights:
                nights[own.cell].append(_night_row(night, own))
    limit = log_ratio(plan.limit_percent)
    return [
        RoundRow(
            round=number,
            kind="creep",
            cell=cell,
            plant="creep",
            verdict="SLOWER" if (found := find_creep(rows, limit)) is not None else "UNSURE",
            change_percent=percent(found.change) if found else None,
            pairs=sum(row.pairs for row in rows),
            limit_percent=plan.limit_percent,
        )
        for cell, rows in nights.items()
    ]


def _night_row(night: int, own: Outcome) -> HistoryRow:
    return HistoryRow(
        kind="night",
        night_utc=f"night {night:02d}",
        suite="selftest",
        system="selftest",
        cell=own.cell,
        baseline="self",
        head="self",
        change_percent=percent(own.effect.estimate) if own.effect else None,
        interval_percent=None,
        pairs=len(own.ratios),
        limit_percent=percent(own.limit),
        state="unsure",
    )


def _row(number: int, kind: RoundKind, plant: Plant, own: Outcome, *, is_held: bool) -> RoundRow:
    """Return a cell's line; an alarm that ten cells explain is none, as in a night."""
    return RoundRow(
        round=number,
        kind=kind,
        cell=own.cell,
        plant=plant,
        verdict="UNSURE" if own.verdict in ALARMS["any"] and not is_held else own.verdict,
        change_percent=percent(own.effect.estimate) if own.effect else None,
        pairs=len(own.ratios),
        limit_percent=percent(own.limit),
    )


# ---------------------------------------------------------------------------------------- scoring


def score(rows: Iterable[RoundRow]) -> list[Rate]:
    """Return how often each plant was called what it is; for `none` and its kin, any call is false.

    `none` joins the A/A rounds and the cells of planted rounds that got nothing.
    """
    own = list(rows)
    names = dict.fromkeys(row.plant for row in own)
    return [_rate(name, [row for row in own if row.plant == name]) for name in names]


def _rate(plant: str, rows: Sequence[RoundRow]) -> Rate:
    if plant == "-5 %":
        wanted: tuple[Verdict, ...] = ("FASTER",)
    elif plant.startswith("+") or plant == "creep":
        wanted = ALARMS["slow"]
    else:
        wanted = ALARMS["any"]
    called = sum(row.verdict in wanted for row in rows)
    lower, upper = clopper_pearson(called, len(rows))
    return Rate(
        plant=plant,
        called=called,
        of=len(rows),
        lower=lower,
        upper=upper,
        mean_pairs=sum(row.pairs for row in rows) / len(rows),
    )


def clopper_pearson(called: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact one-sided lower and upper bounds of a rate, each at the confidence.

    Source: Clopper and Pearson, Biometrika 26 (1934). None of 473 gives an upper bound of 0.63 %;
    one of 473 gives 1.0 %.
    """
    from scipy.special import betaincinv

    low = float(betaincinv(called, of - called + 1, 1 - confidence)) if called else 0.0
    high = float(betaincinv(called + 1, of - called, confidence)) if called < of else 1.0
    return low, high
