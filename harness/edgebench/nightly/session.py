"""A session: ABBA pairs of fresh processes until every cell is decided or the budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgebench.errors import RunFailed
from edgebench.paired import Effect, Verdict, judge, p_value, paired_effect
from edgebench.progress import Progress, SilentProgress

Measure = Callable[[bool, Sequence[str]], Mapping[str, float]]
"""(whether head goes first, cells still undecided) -> cell -> ln(head / baseline) of one pair.

Fresh processes of both arms. May answer for further names, the controls, which are kept too."""

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
    found: dict[str, list[float]] = {}
    faults: list[str] = []
    open_cells, failed, started, pairs = list(limits), 0, clock(), 0
    last = plan.looks[-1]
    with progress.stage("pairs") as update:
        while open_cells and pairs < last and failed < MAX_FAILURES:
            if pairs and (clock() - started) * (pairs + 1) / pairs > plan.budget_s:
                break
            try:
                own = measure(bool((pairs + failed) % 2), open_cells)
            except RunFailed as err:
                failed += 1
                faults.append(str(err))
                continue
            for cell, ratio in own.items():
                found.setdefault(cell, []).append(ratio)
            failed, pairs = 0, pairs + 1
            update(pairs, last)
            if pairs in plan.looks:
                open_cells = [
                    cell for cell in open_cells
                    if not _is_decided(_outcome(cell, found[cell], limits[cell]), plan.alarm_p)
                ]  # fmt: skip
    outcomes = tuple(
        _outcome(cell, ratios, limits.get(cell, min(limits.values())))
        for cell, ratios in found.items()
    )
    return Session(
        outcomes=outcomes,
        pairs=pairs,
        duration_s=clock() - started,
        faults=tuple(faults),
        ran_out=bool(open_cells) and pairs < last,
    )


def _is_decided(outcome: Outcome, alarm_p: float) -> bool:
    if outcome.verdict in ("SLOWER", "FASTER"):
        return p_value(outcome.ratios) <= alarm_p
    return outcome.verdict == "SAME"


def _outcome(cell: str, ratios: Sequence[float], limit: float) -> Outcome:
    effect = paired_effect(ratios, confidence_at(len(ratios)))
    return Outcome(
        cell=cell, ratios=tuple(ratios), effect=effect, limit=limit, verdict=judge(effect, limit)
    )
