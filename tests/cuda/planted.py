"""Emulated launches against the truth in every order of events, and bugs that must not get through.

A planted bug shows as a message of the emulator or of AddressSanitizer, or as wrong numbers; a race
in some schedule, wrong arithmetic in all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry

from .emulation import (
    SCHEDULES,
    Emulation,
    EmulationError,
    Launch,
    Patch,
    Schedule,
    variant_of,
)

NUMBERS = "numbers"
OUTSIDE = "heap-buffer-overflow"
OUTSIDE_OR_FREED = "AddressSanitizer: heap-"  # far past the end, where others were
EITHER = f"{OUTSIDE}|{NUMBERS}"


class Subject(Protocol):
    """A launch, and what is true of what it leaves."""

    @property
    def plan(self) -> geometry.Launch:
        """What is launched."""
        ...

    def launch(self, schedule: Schedule, patches: tuple[Patch, ...] = ()) -> Launch:
        """In that order of events, with bugs planted."""
        ...

    def check(self, results: list[NDArray]) -> list[NDArray]:
        """What no order of events may change by a bit; AssertionError where it is not the truth."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A patch of a kernel; `seen`: how it shows; `in_all`: in every one of `schedules`."""

    of: Subject
    patch: Patch
    seen: str = NUMBERS
    in_all: bool = False
    schedules: tuple[Schedule, ...] = SCHEDULES


def program_of(
    folder: Path, plans: Iterable[geometry.Launch], bugs: Iterable[Bug] = ()
) -> Emulation:
    """All that is launched, compiled: each bug's kernel, and the same without the bug."""
    planted = list(bugs)
    variants = [variant_of(plan) for plan in (*plans, *(bug.of.plan for bug in planted))]
    variants += [variant_of(bug.of.plan, (bug.patch,)) for bug in planted]
    return Emulation(folder, variants)


def check_in_all_schedules(program: Emulation, subject: Subject) -> list[NDArray]:
    """The results; EmulationError or AssertionError unless all schedules give the same truth."""
    launches = [subject.launch(schedule) for schedule in SCHEDULES]
    first, *others = [subject.check(results) for results in program.run(launches)]
    for results in others:
        for one, other in zip(first, results, strict=True):
            assert one.tobytes() == other.tobytes(), "the order of events must not change a bit"
    return first


def check_well(program: Emulation, bugs: Iterable[Bug]) -> None:
    """Raise unless all is well with each bug's subject when the bug is not there."""
    for subject in {id(bug.of): bug.of for bug in bugs}.values():
        check_in_all_schedules(program, subject)


def check_caught(program: Emulation, bug: Bug) -> None:
    """Raise AssertionError unless the bug is caught, as it says."""
    caught = [_how_it_shows(program, bug, schedule) for schedule in bug.schedules]
    assert any(caught)
    assert all(caught) or not bug.in_all, caught
    for text in filter(None, caught):
        assert re.search(bug.seen, text), text


def _how_it_shows(program: Emulation, bug: Bug, schedule: Schedule) -> str:
    """What the emulator says, or NUMBERS where results are wrong; empty where all is well."""
    try:
        [results] = program.run([bug.of.launch(schedule, (bug.patch,))])
        bug.of.check(results)
    except EmulationError as err:
        return str(err)
    except AssertionError:
        return NUMBERS
    return ""
