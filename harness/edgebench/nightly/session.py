"""A session: ABBA pairs of fresh processes until every cell is decided or the budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgebench.errors import RunFailed
from edgebench.paired import Effect, Verdict, judge, log_ratios, p_value, paired_effect
from edgebench.progress import Progress, SilentProgress

Measure = Callable[[bool, Sequence[str]], Mapping[str, float]]
"""(whether it is head's turn, cells still undecided) -> cell -> ns; one fresh process or several.

May answer for further names, the controls, which are kept too."""

LOOK_CONFIDENCE = {8: 0.99}  # eight pairs allow no more than 1 - 2^-7
LATER_CONFIDENCE = 0.995  # each look spends some of the error; ABBA pairs go on growing
MAX_FAILURES = 3  # of processes in a row


def confidence_at(pairs: int) -> float:
    """Return the confidence of the interval that is looked at after so many pairs."""
    return LOOK_CONFIDENCE.get(pairs, LATER_CONFIDENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long a session goes on."""

    looks: Sequence[int]
    """Pairs after which undecided cells are looked at; the last one ends it."""
    budget_s: float
    alarm_p: float
    """An alarm is decided only where its p is at most this, else more pairs are measured: eight
    pairs alone give no p below 0.0078, which a night of many cells does not take."""


@dataclass(slots=True, kw_only=True)
class Measured:
    """The pairs of one cell so far, in ns."""

    baseline: list[float] = field(default_factory=list)
    head: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """ln(head / baseline) of every pair."""
        return log_ratios(self.baseline, self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the session says of one cell."""

    cell: str
    ratios: tuple[float, ...]
    effect: Effect | None
    limit: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Every cell's outcome, the controls' among them, and what went wrong."""

    outcomes: tuple[Outcome, ...]
    pairs: int
    duration_s: float
    faults: tuple[str, ...]
    ran_out: bool
    """Whether the budget ended before every cell was decided."""


def run_session(
    measure: Measure,
    limits: Mapping[str, float],
    plan: Plan,
    *,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Session:
    """Measure head against baseline in pairs, order AB BA AB ..., looking after 8, 16, 32 pairs.

    A pair in which a process failed is dropped whole and said; three failures in a row end it.
    limits: cell -> smallest log-ratio that counts; its keys are the cells.
    """
    progress = progress or SilentProgress()
    found: dict[str, Measured] = {}
    faults: list[str] = []
    open_cells, failed, started, pairs = list(limits), 0, clock(), 0
    last = plan.looks[-1]
    with progress.stage("pairs") as update:
        while open_cells and pairs < last and failed < MAX_FAILURES:
            if pairs and (clock() - started) * (pairs + 1) / pairs > plan.budget_s:
                break
            try:
                _one_pair(found, measure, open_cells, is_head_first=bool((pairs + failed) % 2))
            except RunFailed as err:
                failed += 1
                faults.append(str(err))
                continue
            failed, pairs = 0, pairs + 1
            update(pairs, last)
            if pairs in plan.looks:
                open_cells = [
                    cell for cell in open_cells
                    if not _is_decided(_outcome(cell, found[cell], limits[cell]), plan.alarm_p)
                ]  # fmt: skip
    outcomes = tuple(
        _outcome(cell, own, limits.get(cell, min(limits.values()))) for cell, own in found.items()
    )
    return Session(
        outcomes=outcomes,
        pairs=pairs,
        duration_s=clock() - started,
        faults=tuple(faults),
        ran_out=bool(open_cells) and pairs < last,
    )


def _one_pair(
    found: dict[str, Measured], measure: Measure, cells: Sequence[str], *, is_head_first: bool
) -> None:
    turns = (is_head_first, not is_head_first)
    times = {is_head: measure(is_head, cells) for is_head in turns}
    for cell in (name for name in times[False] if name in times[True]):
        own = found.setdefault(cell, Measured())
        own.baseline.append(times[False][cell])
        own.head.append(times[True][cell])


def _is_decided(outcome: Outcome, alarm_p: float) -> bool:
    if outcome.verdict in ("SLOWER", "FASTER"):
        return p_value(outcome.ratios) <= alarm_p
    return outcome.verdict == "SAME"


def _outcome(cell: str, own: Measured, limit: float) -> Outcome:
    ratios = own.ratios
    effect = paired_effect(ratios, confidence_at(len(ratios)))
    return Outcome(
        cell=cell, ratios=tuple(ratios), effect=effect, limit=limit, verdict=judge(effect, limit)
    )
