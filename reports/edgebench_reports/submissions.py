"""Collecting submissions: every bundle below some folders is checked, then shown or refused."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench import layout
from edgebench.bundle import find_bundles, read_bundle
from edgebench.checker import KnownWorkload, check, known_workload
from edgebench.errors import BundleError, SpecError
from edgebench.progress import Progress, SilentProgress
from edgebench_reports.entries import Submission

SIMULATED = "a simulated device: nothing here was measured on it; --simulated shows it"
Lookup = Callable[[str], KnownWorkload]


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
    with_simulated: bool = False,
) -> tuple[list[Submission], list[Refused]]:
    """Check every bundle below the given roots; SpecError when there is none.

    Checking a large workload regenerates its weights, so it takes seconds; `progress` says so.
    """
    progress = progress or SilentProgress()
    found = list(_bundles(roots))
    if not found:
        raise SpecError(
            f"[leaderboard] expected at least one bundle below {', '.join(map(str, roots))}, "
            "got none; make one with `bench run --track closed`"
        )
    once = functools.cache(lookup)  # a workload is read and verified once, not once a bundle
    accepted: dict[tuple[str, ...], Submission] = {}
    refused: list[Refused] = []
    with progress.stage("checking bundles") as update:
        for number, (root, path) in enumerate(found):
            update(number, len(found))
            outcome = _judge(root, path, once)
            if isinstance(outcome, Refused):
                refused.append(outcome)
            elif outcome.record.host.simulated and not with_simulated:
                refused.append(Refused(path=_shown(root, path), findings=(SIMULATED,)))
            elif (place := layout.parts(outcome.record)) in accepted:
                findings = ("the same run was found twice; only the first is shown",)
                refused.append(Refused(path=_shown(root, path), findings=findings))
            else:
                accepted[place] = outcome
        update(len(found), len(found))
    return list(accepted.values()), refused


def _bundles(roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    for root in roots:
        if not root.is_dir():
            raise SpecError(
                f"[leaderboard] expected a folder of submissions, got {root}; "
                "name the --out folder of `bench run`"
            )
        for path in find_bundles(root):
            yield root, path


def _shown(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path != root else path.name


def _judge(root: Path, path: Path, lookup: Lookup) -> Submission | Refused:
    try:
        findings = check(path, lookup=lookup)
        errors = tuple(str(found) for found in findings if found.severity == "error")
        if errors:
            return Refused(path=_shown(root, path), findings=errors)
        bundle = read_bundle(path)
    except BundleError as err:
        return Refused(path=_shown(root, path), findings=(str(err),))
    warnings = tuple(str(found) for found in findings)
    system = bundle.system.model_dump(mode="json")
    return Submission(record=bundle.record, system=system, warnings=warnings)
