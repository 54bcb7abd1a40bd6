"""The ticker that samples meters and conditions."""

from __future__ import annotations

import threading

from edgebench.ticker import Ticker


def test_it_ticks_until_it_is_stopped_and_not_after() -> None:
    third = threading.Event()
    calls: list[str] = []

    def act() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            third.set()

    ticker = Ticker(act, 0.001, name="edgebench-test")
    ticker.start()
    assert third.wait(60)
    ticker.stop()
    assert set(calls) == {"edgebench-test"}
    assert not ticker._thread.is_alive()


def test_a_call_in_progress_is_waited_for() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        assert release.wait(60)
        ended.set()

    ticker = Ticker(act, 0.001, name="edgebench-test")
    ticker.start()
    assert begun.wait(60)
    threading.Timer(0.01, release.set).start()
    ticker.stop()
    assert ended.is_set()


def test_one_that_never_started_stops_at_once() -> None:
    Ticker(lambda: None, 1.0, name="edgebench-test").stop()
