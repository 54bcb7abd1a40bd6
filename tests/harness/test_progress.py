"""Progress: plain lines carry an ETA, at most one every few seconds, nothing on stdout."""

import io

import pytest

from edgebench.progress import PlainProgress, choose_progress, slow_stage


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_every_few_seconds_with_the_time_left() -> None:
    clock, stream = Clock(), io.StringIO()
    with PlainProgress(stream, clock).stage("measuring") as update:
        for second in range(1, 13):
            clock.now = float(second)
            update(second, 24)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "measuring ...",
        "measuring: 5/24, 19 s left",
        "measuring: 10/24, 14 s left",
        "measuring: done in 12 s",
    ]


def test_no_eta_before_the_first_step() -> None:
    clock, stream = Clock(), io.StringIO()
    with PlainProgress(stream, clock).stage("measuring") as update:
        clock.now = 9.0
        update(0, 10)
    assert "left" not in stream.getvalue()


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = choose_progress(quiet=True)
    progress.note("a note")
    with progress.stage("measuring") as update:
        update(1, 2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_progress_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    progress = choose_progress()
    progress.note("a note")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a note" in captured.err


@pytest.mark.parametrize(("seconds", "lines"), [(1.0, 0), (3.0, 2)])
def test_only_what_is_slow_is_told(seconds: float, lines: int) -> None:
    clock, stream = Clock(), io.StringIO()
    with slow_stage(PlainProgress(stream, clock), "checking", clock) as update:
        clock.now = seconds
        update(1, 2)
        update(2, 2)
    assert len(stream.getvalue().splitlines()) == lines


def test_the_last_step_opens_no_stage() -> None:
    clock, stream = Clock(), io.StringIO()
    with slow_stage(PlainProgress(stream, clock), "checking", clock) as update:
        clock.now = 9.0
        update(2, 2)
    assert stream.getvalue() == ""
