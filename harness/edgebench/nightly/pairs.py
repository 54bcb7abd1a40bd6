"""A pair: a fresh process of each arm, both alive at once, that take turns sweep by sweep.

What the machine does lasts for many sweeps (a neighbour, a clock), so both arms meet it alike: a
pair's number is the median, over its sweeps, of head's time over the baseline's. How much less such
numbers spread than those of processes one after the other: docs/nightly.md, by docs/pair_spread.py.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Timer
from typing import IO, Any

from edgebench.errors import RunFailed
from edgebench.nightly import probe
from edgebench.nightly.arms import PROCESS_LIMIT_S, Arm, last_words, own_environment
from edgebench.nightly.suite import KernelCell
from edgebench.paired import log_ratios

Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
Sweeps = Sequence[Mapping[str, float]]  # each: a cell's name to ns per call

SWEEPS, WARM_SWEEPS = 24, 2
LONG_ENOUGH = 250  # blocks of all cells: few cells get more, so that a short disturbance passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One process of a pair."""

    arm: Arm
    extra: Mapping[str, float] = field(default_factory=dict)
    """Of the self-test: cell to fraction of extra work."""


def probe_pair(
    baseline: Side,
    head: Side,
    cells: Sequence[KernelCell],
    *,
    is_head_first: bool,
    calls: dict[str, int],
    threads: int | None = None,
) -> dict[str, float]:
    """Return ln(head / baseline) of every cell, the control's too, from two fresh processes.

    calls: how many make a block, filled in by the first process ever asked. RunFailed where one
    does not answer.
    """
    order = (head, baseline) if is_head_first else (baseline, head)
    times = sweep_times(order, cells, calls=calls, threads=threads)
    base, own = times[::-1] if is_head_first else times
    return {name: median_log_ratio(base, own, name) for name in own[0]}


def median_log_ratio(base: Sweeps, own: Sweeps, name: str) -> float:
    """Return the median, over sweeps, of ln(own / base) of a cell."""
    return statistics.median(log_ratios([b[name] for b in base], [o[name] for o in own]))


def sweep_times(
    sides: Sequence[Side],
    cells: Sequence[KernelCell],
    *,
    calls: dict[str, int],
    threads: int | None = None,
) -> list[Sweeps]:
    """Return, for each of `sides`, what its fresh process timed in every sweep: ns per call.

    All live at once and take turns, forth and back. calls: as of `probe_pair`.
    """
    times: list[list[Mapping[str, float]]] = [[] for _ in sides]
    with ExitStack() as at_end:
        asks = [at_end.enter_context(_running(side.arm)) for side in sides]
        for ask, side in zip(asks, sides, strict=True):
            calls.update(ask(_request(cells, calls, side, threads))["calls"])
        places = range(len(sides))
        for sweep in range(WARM_SWEEPS + max(SWEEPS, LONG_ENOUGH // (1 + len(cells)))):
            for place in places if sweep % 2 == 0 else reversed(places):
                times[place].append(asks[place]({}))
    return [side[WARM_SWEEPS:] for side in times]


def _request(
    cells: Sequence[KernelCell], calls: Mapping[str, int], side: Side, threads: int | None
) -> dict[str, Any]:
    return {
        "cells": [cell.model_dump() for cell in cells],
        "calls": dict(calls),
        "extra": dict(side.extra),
        "threads": threads,
    }


@contextmanager
def _running(arm: Arm) -> Iterator[Ask]:
    """A probe that answers; killed where it takes too long, and at the end."""
    command = [str(arm.python), "-c", Path(probe.__file__).read_text(encoding="utf-8")]
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as errors:
        try:
            own = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, env={**own_environment(arm), **single},
            )  # fmt: skip
        except OSError as err:
            raise RunFailed(f"[nightly] expected {arm.label} to answer, got {err}") from err
        watch = Timer(PROCESS_LIMIT_S, own.kill)
        watch.daemon = True
        watch.start()
        try:
            yield partial(_ask, arm, own, errors)
        finally:
            watch.cancel()
            own.kill()
            own.communicate()


def _ask(
    arm: Arm, own: subprocess.Popen[str], errors: IO[str], what: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a line and read the answer to it."""
    assert own.stdin is not None
    assert own.stdout is not None
    with suppress(BrokenPipeError):  # its last words are read below
        own.stdin.write(json.dumps(what) + "\n")
        own.stdin.flush()
    line = own.stdout.readline()
    if not line:
        code = own.wait()
        errors.seek(0)
        raise RunFailed(
            f"[nightly] expected {arm.label} to measure, got exit {code}: "
            f"{last_words(errors.read())}"
        )
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError as err:
        raise RunFailed(f"[nightly] expected JSON of {arm.label}, got {line[:80]!r}") from err
    return found
