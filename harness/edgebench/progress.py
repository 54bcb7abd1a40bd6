"""Progress for people: bars with an ETA on a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol, TextIO

from edgebench.units import format_duration

Update = Callable[[int, int], None]  # (done, total), in the stage's own steps
PLAIN_INTERVAL_S = 5.0  # a line every few seconds keeps a log readable
SLOW_S = 2.0  # what is done before needs no words


class Progress(Protocol):
    """Where a run says what it is doing."""

    def note(self, text: str) -> None:
        """Say one thing."""

    def stage(self, title: str) -> AbstractContextManager[Update]:
        """Open a stage; call the yielded update with (done, total)."""


class PlainProgress:
    """Plain lines for logs, pipes and CI."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream, flush=True)

    @contextmanager
    def stage(self, title: str) -> Iterator[Update]:
        """Print the title, then a line with the ETA every few seconds."""
        started = self._clock()
        last_said = started
        self.note(f"{title} ...")

        def update(done: int, total: int) -> None:
            nonlocal last_said
            now = self._clock()
            if done and now - last_said >= PLAIN_INTERVAL_S:
                last_said = now
                eta_s = (now - started) / done * (total - done)
                self.note(f"{title}: {done}/{total}, {format_duration(eta_s)} left")

        yield update
        self.note(f"{title}: done in {format_duration(self._clock() - started)}")


class RichProgress:
    """Bars with elapsed time and ETA for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, markup=False, highlight=False)

    @contextmanager
    def stage(self, title: str) -> Iterator[Update]:
        """Show one bar while the stage lasts."""
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("ETA"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=self._console) as bar:
            task = bar.add_task(title, total=None)

            def update(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            yield update


class SilentProgress:
    """Says nothing: for tests and for callers with their own display."""

    def note(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def stage(self, title: str) -> Iterator[Update]:
        """Count nothing."""
        yield lambda done, total: None


def choose_progress(quiet: bool = False) -> Progress:
    """Pick bars when stderr is a terminal, else plain lines."""
    if quiet:
        return SilentProgress()
    return RichProgress() if sys.stderr.isatty() else PlainProgress()


@contextmanager
def slow_stage(
    progress: Progress, title: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Update]:
    """A stage that is only opened when it still goes on after SLOW_S."""
    started = clock()
    shown: Update | None = None
    with ExitStack() as stack:

        def update(done: int, total: int) -> None:
            nonlocal shown
            if shown is None and clock() - started >= SLOW_S and done < total:
                shown = stack.enter_context(progress.stage(title))
            if shown is not None:
                shown(done, total)

        yield update
