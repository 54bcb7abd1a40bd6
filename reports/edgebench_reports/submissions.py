"""Collecting submissions: every bundle below some folders is checked, then shown or refused."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgebench import layout
from edgebench.checker import known_workload
from edgebench.errors import SpecError
from edgebench.progress import Progress
from edgebench.utc import read_utc
from edgebench_reports.entries import Submission
from edgebench_reports.index import MEMORY, default_index, read_tree
from edgebench_reports.judged import Judged, Lookup

FUTURE_TOLERANCE = timedelta(days=1)  # time zones, and clocks that are a little wrong
SIMULATED = "a simulated device: nothing here was measured on it; --simulated shows it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A bundle that is not on the board, and why."""

    path: str
    findings: tuple[str, ...]


def collect(
    roots: Sequence[Path],
    *,
    progress: Progress | None = None,
    lookup: Lookup = known_workload,
    index: Path | None = MEMORY,
    with_simulated: bool = False,
) -> tuple[list[Submission], list[Refused]]:
    """Check every bundle below the given roots; SpecError when there is none.

    Checking a large workload regenerates its weights, so it takes seconds; `progress` says so. What
    the checker said is remembered for bundles that do not change in the file `index`; None: one in
    the reader's cache.
    """
    if index not in (None, MEMORY) and len(roots) > 1:
        raise SpecError(
            f"[leaderboard] expected one tree of submissions with --index, got {len(roots)}; "
            "leave --index out"
        )
    once = functools.cache(lookup)  # a workload is read and verified once, not once a bundle
    found: list[Judged] = []
    for root in roots:
        found += read_tree(root, index or default_index(root), lookup=once, progress=progress)[1]
    if not found:
        raise SpecError(
            f"[leaderboard] expected at least one bundle below {', '.join(map(str, roots))}, "
            "got none; make one with `bench run --track closed`"
        )
    return _sorted_out(found, with_simulated)


def _sorted_out(
    found: Sequence[Judged], with_simulated: bool
) -> tuple[list[Submission], list[Refused]]:
    accepted: dict[tuple[str, ...], Submission] = {}
    refused: list[Refused] = []
    now = datetime.now(timezone.utc)
    for judged in found:
        if judged.record is None:
            refused.append(Refused(path=judged.path, findings=judged.findings))
        elif judged.record.host.simulated and not with_simulated:
            refused.append(Refused(path=judged.path, findings=(SIMULATED,)))
        elif (place := layout.parts(judged.record)) in accepted:
            findings = ("the same run was found twice; only the first is shown",)
            refused.append(Refused(path=judged.path, findings=findings))
        else:
            accepted[place] = Submission(
                record=judged.record,
                system=judged.system,
                evidence=judged.evidence,
                warnings=(*judged.findings, *_clock(judged.record.provenance.started_utc, now)),
            )
    return list(accepted.values()), refused


def _clock(started_utc: str, now: datetime) -> tuple[str, ...]:
    """Say that a run claims to have begun in the future: its clock was wrong, or its words are."""
    try:
        started = read_utc(started_utc)
    except ValueError:
        return ()
    if started <= now + FUTURE_TOLERANCE:
        return ()
    return (f"the clock of this run was in the future: it says it began at {started_utc}",)
