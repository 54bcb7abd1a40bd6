"""Bugs planted in kernels between the linears, and how the emulation shows them.

They show as a message of the emulator or of AddressSanitizer, or as wrong numbers; a race in some
schedule, wrong arithmetic in all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry

from .emulation import SCHEDULES, Argument, Emulation, EmulationError, Patch, Schedule
from .step import launch_of

NUMBERS = "numbers"
OUTSIDE = "heap-buffer-overflow"
EITHER = f"{OUTSIDE}|{NUMBERS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A launch, and what raises AssertionError where its buffers came out wrong."""

    plan: geometry.Launch
    arguments: Callable[[], list[Argument]]
    check: Callable[[list[NDArray]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A patch of a subject's kernel; `seen`: how it shows; `in_all`: in every schedule.

    seeds: orders of events tried in each schedule.
    """

    of: Subject
    patch: Patch
    seen: str = NUMBERS
    in_all: bool = True
    seeds: int = 1


def check_caught(program: Emulation, bug: Bug) -> None:
    """Raise AssertionError unless the bug shows, and as it should."""
    schedules = [
        replace(schedule, seed=schedule.seed + len(SCHEDULES) * turn)
        for schedule in SCHEDULES
        for turn in range(bug.seeds)
    ]
    caught = [how_it_shows(program, bug.of, schedule, (bug.patch,)) for schedule in schedules]
    assert any(caught)
    assert all(caught) or not bug.in_all, caught
    for text in filter(None, caught):
        assert re.search(bug.seen, text), text


def how_it_shows(
    program: Emulation, subject: Subject, schedule: Schedule, patches: tuple[Patch, ...]
) -> str:
    """What the emulator says, or NUMBERS where results are wrong; empty where all is well."""
    launch = launch_of(subject.plan, subject.arguments(), schedule, patches)
    try:
        [results] = program.run([launch])
        subject.check(results)
    except EmulationError as err:
        return str(err)
    except AssertionError:
        return NUMBERS
    return ""
