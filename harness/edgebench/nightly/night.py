"""A night: a session's outcomes judged together, with control, false discoveries and creep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.nightly.creep import Creep, find_creep
from edgebench.nightly.history import HistoryRow, State, gaps
from edgebench.nightly.probe import CONTROL
from edgebench.nightly.session import Outcome, Session
from edgebench.nightly.suite import Suite
from edgebench.paired import (
    Effect,
    false_discoveries_held,
    judge,
    log_ratio,
    p_value,
    percent,
    smallest_visible,
)

EXIT_REGRESSION, EXIT_UNSURE = 6, 7
FEWEST_PAIRS = 8
CONTROL_LIMIT_PERCENT = 2.0
"""What a control may seem to have moved before a night is void; nothing of ours can move it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightCell:
    """One cell of a night."""

    name: str
    effect: Effect | None
    limit: float
    limit_reason: str
    state: State

    @property
    def visible(self) -> float | None:
        """The smallest change that could have been called one, in log units."""
        return smallest_visible(self.effect, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """Everything that the reports say of one night."""

    night_utc: str
    suite: str
    system: str
    baseline: str
    head: str
    pairs: int
    duration_s: float
    cells: tuple[NightCell, ...]
    controls: tuple[NightCell, ...]
    creeps: tuple[Creep, ...]
    notes: tuple[str, ...]

    @property
    def is_void(self) -> bool:
        """Whether a control moved, so that nothing else may be believed."""
        return any(cell.state == "void" for cell in self.controls)

    def exit_code(self, *, strict: bool) -> int:
        """6 on a regression; with strict, 7 where a cell is left open."""
        states = {cell.state for cell in self.cells}
        if "regression" in states:
            return EXIT_REGRESSION
        is_open = bool(states & {"unsure", "suspicious", "insufficient data", "void"})
        return EXIT_UNSURE if strict and is_open else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What was compared, where."""

    system: str
    baseline: str
    head: str
    night_utc: str


def is_control(name: str) -> bool:
    """Whether a cell is a control, which no change of ours can move."""
    return name == CONTROL or name.endswith(f" {CONTROL}")


def make_night(
    suite: Suite,
    session: Session,
    labels: Labels,
    limits: Mapping[str, tuple[float, str]],
    history: Sequence[HistoryRow],
    faults: Sequence[str] = (),
) -> Night:
    """Judge a session: a moved control voids it, else false discoveries are held over its cells."""
    by_name = {outcome.cell: outcome for outcome in session.outcomes}
    controls = tuple(_control(own) for name, own in by_name.items() if is_control(name))
    void = any(cell.state == "void" for cell in controls)
    cells = _judged(suite, by_name, limits, is_void=void)
    rows = [row for row in history if row.system == labels.system and row.suite == suite.name]
    tonight = [to_row(suite.name, labels, cell) for cell in cells] if not void else []
    creeps = [
        found
        for name in suite.names
        if (own := [row for row in [*rows, *tonight] if row.cell == name and row.state != "void"])
        and (found := find_creep(own, limits[name][0])) is not None
    ]
    nights = [row.night_utc for row in rows if row.kind == "night"]
    notes = [*faults, *session.faults, *gaps([*nights, labels.night_utc])]
    if session.ran_out:
        notes.append(f"the budget of {suite.budget_minutes:g} minutes ended before all was decided")
    return Night(
        night_utc=labels.night_utc,
        suite=suite.name,
        system=labels.system,
        baseline=labels.baseline,
        head=labels.head,
        pairs=session.pairs,
        duration_s=session.duration_s,
        cells=tuple(cells),
        controls=controls,
        creeps=tuple(creeps),
        notes=tuple(notes),
    )


def _control(outcome: Outcome) -> NightCell:
    limit = log_ratio(CONTROL_LIMIT_PERCENT)
    moved = judge(outcome.effect, limit) in ("SLOWER", "FASTER")
    return NightCell(
        name=outcome.cell,
        effect=outcome.effect,
        limit=limit,
        limit_reason="of a control",
        state="void" if moved else "no change",
    )


def _judged(
    suite: Suite,
    by_name: Mapping[str, Outcome],
    limits: Mapping[str, tuple[float, str]],
    *,
    is_void: bool,
) -> list[NightCell]:
    known = [name for name in suite.names if name in by_name]
    p_values = [p_value(by_name[name].ratios) for name in known]
    held = dict(
        zip(known, false_discoveries_held(p_values, suite.false_discovery_rate), strict=True)
    )
    cells = []
    for name in suite.names:
        outcome = by_name.get(name)
        limit, reason = limits[name]
        cells.append(
            NightCell(
                name=name,
                effect=outcome.effect if outcome else None,
                limit=limit,
                limit_reason=reason,
                state="void" if is_void else state_of(outcome, is_held=held.get(name, False)),
            )
        )
    return cells


def state_of(outcome: Outcome | None, *, is_held: bool) -> State:
    """Return a cell's state: a slow-down that the night's many cells explain is only suspicious."""
    if outcome is None or len(outcome.ratios) < FEWEST_PAIRS:
        return "insufficient data"
    if outcome.verdict == "SLOWER":
        return "regression" if is_held else "suspicious"
    if outcome.verdict == "FASTER":
        return "improvement" if is_held else "unsure"
    return "no change" if outcome.verdict == "SAME" else "unsure"


def to_row(suite: str, labels: Labels, cell: NightCell) -> HistoryRow:
    """Return the history's line of one cell; a version against itself is an A/A comparison."""
    effect = cell.effect
    bounds = effect.interval if effect else None
    return HistoryRow(
        kind="aa" if labels.baseline == labels.head else "night",
        night_utc=labels.night_utc,
        suite=suite,
        system=labels.system,
        cell=cell.name,
        baseline=labels.baseline,
        head=labels.head,
        change_percent=percent(effect.estimate) if effect else None,
        interval_percent=(percent(bounds[0]), percent(bounds[1])) if bounds else None,
        pairs=effect.pairs if effect else 0,
        limit_percent=percent(cell.limit),
        state=cell.state,
    )
